"""An optimizer's state as plain values and tensors, and tensors of several owners in one file."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def pack(optimizer: torch.optim.Optimizer) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Its groups' constants, and its moments by parameter number and name."""
    state = optimizer.state_dict()
    moments = {
        f"{number}.{name}": tensor for number, own in state["state"].items() for name, tensor in own.items()
    }
    return state["param_groups"], moments


def unpack(
    optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]], moments: Mapping[str, Tensor]
) -> None:
    """Go on from what `pack` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in moments.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def joined(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of several owners under one name each, `OWNER:NAME`."""
    return {f"{owner}:{name}": tensor for owner, part in parts.items() for name, tensor in part.items()}


def parted(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What `joined` joined; an owner without tensors is not in it."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        owner, _, name = key.partition(":")
        parts.setdefault(owner, {})[name] = tensor
    return parts
