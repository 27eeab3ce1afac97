"""Stages by epoch: which samples a training sees, and under which loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ristune.errors import InputError
from ristune.training.task import Batches, Task


@dataclass(frozen=True)
class Stage:
    """From one epoch to the next stage.

    Attributes:
        first: its first epoch, from 1.
        task: prepares batches and gives the loss; its network is the one that is trained.
        train: the training samples.
    """

    first: int
    task: Task
    train: Batches


def stage_at(stages: Sequence[Stage], epoch: int) -> Stage:
    """The stage of an epoch: the last one that has begun."""
    return [stage for stage in stages if stage.first <= epoch][-1]


def parse_curriculum(stages: Sequence[Any], epochs: int) -> list[tuple[int, Mapping[str, Any]]]:
    """The first epoch and the values of each stage of `training.curriculum`.

    Args:
        stages: `{from: EPOCH, set: {PATH: VALUE}}` each; `set` may be left out: the configuration as it is.
        epochs: of the training.

    Raises:
        InputError: naming the stage that is not of this form, out of order, or sets what no stage may.
    """
    parsed: list[tuple[int, Mapping[str, Any]]] = []
    for index, stage in enumerate(stages):
        path = f"training.curriculum[{index}]"
        if not isinstance(stage, Mapping) or not {"from"} <= set(stage) <= {"from", "set"}:
            rule = "it must be {from: EPOCH, set: {PATH: VALUE}}"
            raise InputError(path, stage, rule, "see configs/training/default.yaml")
        first, values = stage["from"], stage.get("set", {})
        earliest = parsed[-1][0] + 1 if parsed else 1
        if not isinstance(first, int) or not earliest <= first <= epochs:
            rule = f"a stage's first epoch must lie in {earliest}..{epochs}, after the stage before"
            raise InputError(f"{path}.from", first, rule, "reorder the stages, or train for longer")
        if not isinstance(values, Mapping):
            raise InputError(f"{path}.set", values, "it must be {PATH: VALUE}", "write a mapping")
        for name in values:
            if name != "data.filter" and not str(name).startswith("task."):
                rule = "a stage may set data.filter and task.*"
                raise InputError(f"{path}.set", name, rule, "set the rest for the whole training")
        parsed.append((first, values))
    return parsed
