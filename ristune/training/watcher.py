"""Who looks on while a trainer is at work: asked whether to pause, told of the first fault."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ristune.training.rng import RandomState
from ristune.training.task import Batch


@dataclass(frozen=True)
class Failure:
    """A window whose loss or gradient was not finite, and all that reproduces it.

    Attributes:
        epoch: in which it was, from 1.
        window: its number since the start, from 1.
        cause: what was not finite, by name.
        precision: of the network's autocast.
        scale: of the gradient scaler; 1 without one.
        batches: its micro-batches, columns as stored.
        weights: the network's parameters and buffers before it, by name.
        random: the generators before it.
    """

    epoch: int
    window: int
    cause: str
    precision: str
    scale: float
    batches: Sequence[Batch]
    weights: Mapping[str, Tensor]
    random: RandomState


class Watcher(Protocol):
    """Asked and told between two windows."""

    def pause(self) -> bool:
        """Whether to stop here, in mid-epoch; the trainer's `state` goes on from there."""
        ...

    def failed(self, failure: Failure) -> None:
        """Take the first fault of a training."""
        ...


class Nobody:
    """Never pauses, keeps nothing."""

    def pause(self) -> bool:
        """No."""
        return False

    def failed(self, failure: Failure) -> None:
        """Drop it."""
