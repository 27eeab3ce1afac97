"""The first window of a training that was not finite, written down so that it can be looked into."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ristune.training import checkpoint
from ristune.training.rng import RandomState
from ristune.training.task import Batch
from ristune.training.watcher import Failure

FOLDER = "diverged"
WINDOW = "window.safetensors"
RANDOM = "random.safetensors"


def write(directory: Path, failure: Failure, origin: Mapping[str, Any]) -> Path:
    """Write a failure as a checkpoint with the window beside the weights; where it lies is returned.

    Args:
        directory: of the training.
        failure: what to write.
        origin: what the training came from, plain values.
    """
    columns = {
        f"{number}:{name}": column
        for number, batch in enumerate(failure.batches)
        for name, column in batch.items()
    }
    said = ("epoch", "window", "cause", "precision", "scale")
    checkpoint.write(
        directory / FOLDER,
        {checkpoint.WEIGHTS: failure.weights, WINDOW: columns, RANDOM: failure.random.tensors()},
        {"failure": {name: getattr(failure, name) for name in said}, **origin},
    )
    return directory / FOLDER


def read_window(saved: checkpoint.Checkpoint) -> tuple[list[Batch], RandomState]:
    """The micro-batches of a dump, on the CPU, and the generators before them.

    Raises:
        InputError: if it is a checkpoint, but no dump.
    """
    batches: dict[int, dict[str, Tensor]] = {}
    for key, column in saved.tensors(WINDOW).items():
        number, _, name = key.partition(":")
        batches.setdefault(int(number), {})[name] = column
    random = RandomState.from_tensors(saved.tensors(RANDOM))
    return [batches[number] for number in sorted(batches)], random
