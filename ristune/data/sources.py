"""Where a stream takes its samples from: rows in memory, row groups read for a while, or a GPU."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.buffers import BufferPool
from ristune.data.cache import Resident, planes
from ristune.data.dataset import Dataset
from ristune.data.gather import Gatherer, Packed, gather_there
from ristune.data.layout import Planes, layout, pack
from ristune.data.order import Order, Rows
from ristune.data.prefetch import ahead, moved
from ristune.data.reading import READERS, GroupReader

Batch = dict[str, Tensor]


class Source(Protocol):
    """Batches of samples in a given order."""

    def batches(self, order: Order, batch_size: int, start: int, prefetch: int) -> Iterator[Batch]:
        """The batches of an epoch.

        Args:
            order: the order of its samples.
            batch_size: samples in a batch; the last one has what is left.
            start: the first batch to give.
            prefetch: threads that work ahead.
        """


@dataclass(frozen=True)
class Window:
    """A window of an order as it lies in memory.

    Attributes:
        planes: the planes that hold its samples.
        rows: where in the planes they are, in the order of the epoch, [n].
        keep: what must live as long as the planes are used.
    """

    planes: Planes
    rows: Rows
    keep: object = None


class HostSource:
    """Samples gathered on the CPU, from all rows at once or from a window of row groups after the other."""

    def __init__(
        self,
        windows: Callable[[Order, int], Iterator[Callable[[], Window]]],
        gatherer: Gatherer,
        device: torch.device,
    ) -> None:
        """Take samples from windows.

        Args:
            windows: the windows of an order from a given one on; a call waits until a window is in memory.
            gatherer: makes the batches.
            device: where they go.
        """
        self._windows = windows
        self._gatherer = gatherer
        self._device = device

    def batches(self, order: Order, batch_size: int, start: int, prefetch: int) -> Iterator[Batch]:
        """The batches of an epoch; see `Source.batches`."""
        pools = self._gatherer.pools(prefetch + 3, pinned=self._device.type == "cuda")
        jobs = self._jobs(order, batch_size, start, pools)
        for packed in moved(ahead(jobs, prefetch), self._device):
            yield self._gatherer.columns(packed)

    def _jobs(
        self, order: Order, batch_size: int, start: int, pools: Sequence[BufferPool]
    ) -> Iterator[Callable[[], Packed]]:
        begin, end = start * batch_size, len(order)
        if begin >= end:
            return
        number = int(np.searchsorted(order.bounds, begin, side="right")) - 1
        coming = self._windows(order, number)
        # The windows that batches not yet made need, each with where it starts in the epoch.
        open_windows: deque[tuple[int, int, Callable[[], Window]]] = deque()
        for first in range(begin, end, batch_size):
            last = min(first + batch_size, end)
            while not open_windows or open_windows[-1][1] < last:
                low, high = (int(bound) for bound in order.bounds[number : number + 2])
                open_windows.append((low, high, next(coming)))
                number += 1
            while open_windows[0][1] <= first:
                open_windows.popleft()
            parts = [(max(first, a) - a, min(last, b) - a, window) for a, b, window in open_windows]
            yield partial(self._gather, pools, parts)

    def _gather(
        self, pools: Sequence[BufferPool], parts: Sequence[tuple[int, int, Callable[[], Window]]]
    ) -> Packed:
        windows = [(window(), a, b) for a, b, window in parts]
        return self._gatherer.gather(pools, [(window.planes, window.rows[a:b]) for window, a, b in windows])


def resident_windows(resident: Resident) -> Callable[[Order, int], Iterator[Callable[[], Window]]]:
    """All rows are in memory: a window is nothing but its order."""

    def windows(order: Order, first: int) -> Iterator[Callable[[], Window]]:
        for number in range(first, len(order.windows)):
            window = Window(resident.planes, order.rows(number), resident)
            yield partial(_itself, window)

    return windows


def _itself(window: Window) -> Window:
    return window


class WindowReader:
    """Reads windows of row groups: one is used while the next one is on its way."""

    def __init__(self, dataset: Dataset, split: str, columns: Sequence[str], size: int) -> None:
        """Prepare to read.

        Args:
            dataset: the dataset.
            split: the split.
            columns: the columns that are needed.
            size: row groups in a window.
        """
        self.layout = layout([dataset.column(name) for name in columns])
        self._columns = [column for _, column, _ in self.layout.places.values()]
        self._groups = list(dataset.groups(split))
        sizes = [shard.row_groups[number].rows for shard, number in self._groups]
        # The largest window there can be: buffers then fit all of them.
        self._rows = sum(sorted(sizes, reverse=True)[:size])
        self._pool = BufferPool(self.layout.extents(self._rows)[-1], kept=2)
        largest = max(shard.row_groups[number].bytes for shard, number in self._groups)
        self._raw = BufferPool(largest, kept=READERS)
        self._reader = GroupReader(dataset.storage)

    def windows(self, order: Order, first: int) -> Iterator[Callable[[], Window]]:
        """The windows of an order from `first` on, in memory when they are called."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="ristune-window") as readers:
            following = self._load(readers, order, first)
            for number in range(first, len(order.windows)):
                current = following
                if number + 1 < len(order.windows):
                    following = self._load(readers, order, number + 1)
                yield current

    def _load(self, readers: ThreadPoolExecutor, order: Order, number: int) -> Callable[[], Window]:
        lent = self._pool.take()
        there = planes(lent, self.layout, self._rows)
        groups = order.windows[number]
        starts = np.concatenate([[0], np.cumsum([order.groups[group] for group in groups])])
        reads: list[Future[None]] = [
            readers.submit(self._read, group, there, int(start), order.groups[group])
            for group, start in zip(groups, starts, strict=False)
        ]
        rows = order.rows(number)
        # From the row in the split to the row in the window: groups lie there in the order they are read in.
        shift = np.zeros(len(order.groups), np.int64)
        shift[list(groups)] = starts[:-1] - order.starts[list(groups)]
        local = rows + shift[np.searchsorted(order.starts, rows, side="right") - 1]
        window = Window(there, local, lent)
        return partial(_arrived, window, reads)

    def _read(self, group: int, there: Planes, start: int, rows: int) -> None:
        shard, number = self._groups[group]
        raw = self._raw.take()
        arrays = self._reader.read(shard, number, self._columns, memoryview(raw.data))
        kept = {name: values[:rows] for name, values in arrays.items()}
        for plane, target in zip(self.layout.planes, there, strict=True):
            target[start : start + rows] = pack(plane, kept)


def _arrived(window: Window, reads: Sequence[Future[None]]) -> Window:
    for read in reads:
        read.result()
    return window


class DeviceSource:
    """All samples in the memory of a device, and gathered there."""

    def __init__(
        self, dataset: Dataset, split: str, columns: Sequence[str], rows: int, device: torch.device
    ) -> None:
        """Copy the samples to the device, unless this process did so for the trial before."""
        self._layout = dataset.layout
        self._columns = columns
        self._planes = device_planes(dataset, split, tuple(columns), rows, device)
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


@lru_cache(maxsize=2)
def device_planes(
    dataset: Dataset, split: str, columns: tuple[str, ...], rows: int, device: torch.device
) -> dict[int, Tensor]:
    """The planes of some columns on a device; kept for the next trial of this process: train and val."""
    resident = dataset.resident(split, rows)
    numbers = {dataset.layout.places[name][0] for name in columns}
    return {number: _copied(resident.planes[number][:rows], device) for number in numbers}


def _copied(plane: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(plane).to(device, copy=True)
