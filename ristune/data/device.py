"""Samples that lie wholly in the memory of a device."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ristune.data.dataset import Dataset
from ristune.data.gather import Batch, Gatherer
from ristune.data.order import Order


class DeviceSource:
    """All samples in the memory of a device, and gathered there."""

    def __init__(
        self, dataset: Dataset, split: str, columns: Sequence[str], rows: int, device: torch.device
    ) -> None:
        """Copy the samples to the device, unless this process did so for the trial before."""
        self._gatherer = Gatherer(dataset.layout, columns, batch_size=0)
        self._samples = _on_device(dataset, split, rows, device)
        self._device = device

    def batches(self, order: Order, batch_size: int, start: int, prefetch: int) -> Iterator[Batch]:
        """The batches of an epoch; see `Source.batches`. Nothing is prefetched."""
        parts = [torch.from_numpy(order.rows(number)) for number in range(len(order.windows))]
        if not parts:
            return
        rows = torch.cat(parts).to(self._device)
        for number in range(start, math.ceil(len(order) / batch_size)):
            chosen = rows[number * batch_size : (number + 1) * batch_size]
            samples = torch.index_select(self._samples, 0, chosen).view(torch.uint8)
            yield self._gatherer.columns_there(samples)


# What this process has put on devices, for the next trial it runs, by what it is of.
_KEPT: dict[tuple[object, ...], Tensor] = {}


def kept_on_device(dataset: Dataset, split: str, device: torch.device) -> int:
    """The bytes of a device that would be used again, or be freed, for these samples."""
    same = [key for key in _KEPT if key[0] != dataset.dataset_id or key[1:3] == (split, device)]
    return sum(_KEPT[key].nbytes for key in same)


def kept_on_gpus() -> int:
    """The bytes of samples that this process keeps on devices for the next trial."""
    return sum(tensor.nbytes for tensor in _KEPT.values())


def _on_device(dataset: Dataset, split: str, rows: int, device: torch.device) -> Tensor:
    """The samples on a device, [rows, width / 8], int64: a GPU gathers words faster than bytes."""
    key = (dataset.dataset_id, split, device, rows)
    # Before anything is copied: memory must not hold two datasets, or a split twice.
    for other in [*_KEPT]:
        if other != key and (other[0] != key[0] or other[1:3] == key[1:3]):
            del _KEPT[other]
    if key not in _KEPT:
        samples = dataset.resident(split, rows).rows[:rows]
        _KEPT[key] = torch.from_numpy(samples.view(np.int64)).to(device, copy=True)
    return _KEPT[key]
