"""A moment of a training that can be come back to, and a micro-batch to be run from it."""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ristune.training.task import Batch, Task


class Moment:
    """The random states, and the weights, buffers and modes of a network, as they are now.

    Args:
        network: the network, left as it is.
        device: where it lies; the generator of a GPU is kept too.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._device = device
        self._modes = [(module, module.training) for module in network.modules()]
        # A module may rebind a buffer rather than write to it: keep the slots beside the values.
        self._slots = [(module._buffers, dict(module._buffers)) for module in network.modules()]
        tensors = (*network.parameters(), *network.buffers())
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self._cpu = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._numpy = np.random.get_state()
        self._python = random.getstate()

    def restore(self) -> None:
        """Put all of it back."""
        for module, mode in self._modes:
            module.training = mode
        for slots, kept in self._slots:
            slots.update(kept)
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
        torch.set_rng_state(self._cpu)
        if self._gpu is not None:
            torch.cuda.set_rng_state(self._gpu, self._device)
        np.random.set_state(self._numpy)
        random.setstate(self._python)


@dataclass(frozen=True)
class Case:
    """One micro-batch of the window, to be passed through the task as often as there are questions.

    Attributes:
        task: the task.
        batch: raw columns, on the device.
        device: where the network and the batch lie.
        moment: what was before it.
        precision: the network's autocast.
        scale: what the window's loss was multiplied by.
        share: its share of the window's rows, in (0, 1].
        place: how findings begin, to tell micro-batches apart; empty if there is one.
    """

    task: Task
    batch: Batch
    device: torch.device
    moment: Moment
    precision: str
    scale: float
    share: float
    place: str

    def begin(self) -> Batch:
        """Go back to the moment; the columns, which a pass may write over."""
        self.moment.restore()
        return {name: column.clone() for name, column in self.batch.items()}

    def cleaned(self, names: Collection[str]) -> "Case":
        """The same with a finite row in the place of some columns' non-finite ones; ones if there is none."""
        batch = dict(self.batch)
        for name in names:
            column = batch[name].clone()
            bad = ~torch.isfinite(column).reshape(len(column), -1).all(1)
            column[bad] = column[~bad][0] if not bool(bad.all()) else torch.ones_like(column[0])
            batch[name] = column
        return replace(self, batch=batch)
