"""Samples that lie wholly in the memory of a device."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.dataset import Dataset
from ristune.data.gather import gather_there
from ristune.data.order import Order
from ristune.data.sources import Batch


class DeviceSource:
    """All samples in the memory of a device, and gathered there."""

    def __init__(
        self, dataset: Dataset, split: str, columns: Sequence[str], rows: int, device: torch.device
    ) -> None:
        """Copy the samples to the device, unless this process did so for the trial before."""
        self._layout = dataset.layout
        self._columns = columns
        self._planes = _on_device(dataset, split, columns, rows, device)
        self._device = device

    def batches(self, order: Order, batch_size: int, start: int, prefetch: int) -> Iterator[Batch]:
        """The batches of an epoch; see `Source.batches`. Nothing is prefetched."""
        parts = [torch.from_numpy(order.rows(number)) for number in range(len(order.windows))]
        if not parts:
            return
        rows = torch.cat(parts).to(self._device)
        for number in range(start, math.ceil(len(order) / batch_size)):
            chosen = rows[number * batch_size : (number + 1) * batch_size]
            yield gather_there(self._planes, self._layout, self._columns, chosen)


# What this process has put on devices, for the next trial it runs: the planes by what they are of.
_KEPT: dict[tuple[object, ...], dict[int, Tensor]] = {}


def kept_on_device(dataset: Dataset, split: str, device: torch.device) -> int:
    """The bytes of a device that would be used again, or be freed, for these samples."""
    same = [key for key in _KEPT if key[0] != dataset.dataset_id or key[1:3] == (split, device)]
    return sum(plane.nbytes for key in same for plane in _KEPT[key].values())


def _on_device(
    dataset: Dataset, split: str, columns: Sequence[str], rows: int, device: torch.device
) -> dict[int, Tensor]:
    """The planes of some columns on a device."""
    key = (dataset.dataset_id, split, device, tuple(columns), rows)
    # Before anything is copied: memory must not hold two datasets, or a split twice.
    for other in [*_KEPT]:
        if other != key and (other[0] != key[0] or other[1:3] == key[1:3]):
            del _KEPT[other]
    if key not in _KEPT:
        resident = dataset.resident(split, rows)
        numbers = {dataset.layout.places[name][0] for name in columns}
        _KEPT[key] = {number: _copied(resident.planes[number][:rows], device) for number in numbers}
    return _KEPT[key]


def _copied(plane: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(plane).to(device, copy=True)
