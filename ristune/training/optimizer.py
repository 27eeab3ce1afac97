"""The optimizer: groups of parameters by name, each with its rate and decay."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import nn

from ristune.errors import InputError, some
from ristune.training.config import OptimizerConfig
from ristune.training.tensors import trainable

# Names of parameters in a message.
NAMED = 8


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; vectors and scalars (biases, norms, gates) are not decayed.

    It runs in torch's fused form, which can skip a step by a flag that the host never reads; complex
    parameters have no such form.

    Args:
        network: its parameters that require a gradient are optimised.
        config: rates, betas, decay, groups.

    Raises:
        InputError: if nothing is trainable, or a group's pattern fits no parameter or one of another group.
    """
    parameters = trainable(network)
    if not parameters:
        raise InputError(
            "task.network",
            type(network).__name__,
            "it must have parameters that require a gradient",
            "do not freeze all of them",
        )
    members = group_names(list(parameters), config)
    groups = []
    for name in ["", *config.groups]:
        own = config.groups.get(name, {})
        lr, decay = own.get("lr"), own.get("weight_decay")
        for decayed in (True, False):
            chosen = [p for n, p in parameters.items() if members[n] == name and (p.ndim >= 2) == decayed]
            if chosen:
                weight_decay = config.weight_decay if decay is None else decay
                groups.append(
                    {
                        "params": chosen,
                        "lr": config.lr if lr is None else lr,
                        "weight_decay": weight_decay if decayed else 0.0,
                    }
                )
    fused = not any(p.is_complex() for p in parameters.values())
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused)


def group_names(parameters: list[str], config: OptimizerConfig) -> dict[str, str]:
    """The group of each parameter, the empty name for those of no group.

    Args:
        parameters: names.
        config: groups by name, each with its patterns.

    Raises:
        InputError: if a pattern fits no parameter, or one of another group.
    """
    members = dict.fromkeys(parameters, "")
    for name, group in config.groups.items():
        for pattern in group["match"]:
            fitting = [parameter for parameter in parameters if fnmatchcase(parameter, pattern)]
            if not fitting:
                raise InputError(
                    f"optimizer.groups.{name}.match",
                    pattern,
                    f"it must fit a trainable parameter; there are {some(parameters, NAMED)}",
                    "correct the pattern; * stands for anything",
                )
            for parameter in fitting:
                if members[parameter] not in ("", name):
                    raise InputError(
                        f"optimizer.groups.{name}.match",
                        pattern,
                        f"{parameter} belongs to the group {members[parameter]!r} already",
                        "make the patterns disjoint: a parameter belongs to one group",
                    )
                members[parameter] = name
    return members


def diagnosed_groups(parameters: list[str], config: OptimizerConfig) -> Mapping[str, list[str]]:
    """Parameters by group as diagnostics show them: the optimizer's groups, else by the module on top."""
    groups: dict[str, list[str]] = {}
    for parameter, group in group_names(parameters, config).items():
        groups.setdefault(group or parameter.partition(".")[0], []).append(parameter)
    return groups
