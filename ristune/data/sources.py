"""Samples gathered on the CPU: from rows in memory, or from row groups that are read for a while."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ristune.data.buffers import BufferPool
from ristune.data.cache import Resident
from ristune.data.dataset import Dataset
from ristune.data.gather import Batch, Gatherer
from ristune.data.layout import Rows, layout
from ristune.data.order import Order
from ristune.data.prefetch import ahead, moved
from ristune.data.reading import GroupReader
from ristune.data.scatter import READERS
from ristune.data.threads import Daemons

# Batches whose memory is kept for the next ones: those of threads, and of who uses them.
LIVE = 6


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
        rows: memory that holds its samples, [m, width], uint8.
        chosen: which of its rows these are, in the order of the epoch, [n].
        keep: what must live as long as the rows are used.
    """

    rows: Rows
    chosen: NDArray[np.int64]
    keep: object = None


# Windows to come, each with the first and last of their samples that a batch takes.
Parts = Sequence[tuple[int, int, Callable[[], Window]]]


class Windows(Protocol):
    """The windows of an order, one after the other."""

    def following(self) -> Callable[[], Window]:
        """The next window; the call that is returned waits until it is in memory."""

    def abandon(self) -> None:
        """Nobody wants what is still on its way; again is no error."""


class HostSource:
    """Samples gathered on the CPU, from all rows at once or from a window of row groups after the other."""

    def __init__(
        self, begin: Callable[[Order, int], Windows], gatherer: Gatherer, device: torch.device
    ) -> None:
        """Take samples from windows.

        Args:
            begin: the windows of an order from a given one on.
            gatherer: makes the batches.
            device: where they go.
        """
        self._begin = begin
        self._gatherer = gatherer
        self._device = device
        # For all epochs: fresh memory would cost an epoch of small batches a tenth of its time.
        self._pool = gatherer.pool(kept=LIVE, pinned=device.type == "cuda")

    def batches(self, order: Order, batch_size: int, start: int, prefetch: int) -> Iterator[Batch]:
        """The batches of an epoch; see `Source.batches`."""
        if start * batch_size >= len(order):
            return
        first = int(np.searchsorted(order.bounds, start * batch_size, side="right")) - 1
        windows = self._begin(order, first)
        parts = self._parts(order, batch_size, start, first, windows)
        try:
            if self._device.type == "cpu":
                # The columns too are made by the thread that copies: who takes the batch has work of its own.
                jobs = (partial(self._batch, prefetch, part) for part in parts)
                yield from ahead(jobs, prefetch, windows.abandon)
            else:
                copies = (partial(self._samples, prefetch, part) for part in parts)
                for there in moved(ahead(copies, prefetch, windows.abandon), self._device):
                    yield self._gatherer.columns_there(there)
        finally:
            windows.abandon()

    def _parts(
        self,
        order: Order,
        batch_size: int,
        start: int,
        number: int,
        windows: Windows,
    ) -> Iterator[Parts]:
        """Of each batch the windows that it is taken from, and where in them it starts and ends."""
        end = len(order)
        # The windows that batches not yet made need, each with where it starts and ends in the epoch.
        needed: deque[tuple[int, int, Callable[[], Window]]] = deque()
        for first in range(start * batch_size, end, batch_size):
            last = min(first + batch_size, end)
            while not needed or needed[-1][1] < last:
                low, high = (int(bound) for bound in order.bounds[number : number + 2])
                needed.append((low, high, windows.following()))
                number += 1
            while needed[0][1] <= first:
                needed.popleft()
            yield [(max(first, a) - a, min(last, b) - a, window) for a, b, window in needed]

    def _samples(self, threads: int, parts: Parts) -> Rows:
        windows = [(window(), a, b) for a, b, window in parts]
        pieces = [(window.rows, window.chosen[a:b]) for window, a, b in windows]
        return self._gatherer.gather(self._pool, pieces, alone=threads == 0)

    def _batch(self, threads: int, parts: Parts) -> Batch:
        return self._gatherer.columns(self._samples(threads, parts))


class ResidentWindows:
    """All rows are in memory: a window is nothing but its order."""

    def __init__(self, resident: Resident, order: Order, first: int) -> None:
        self._resident = resident
        self._order = order
        self._number = first

    def following(self) -> Callable[[], Window]:
        """The next window; see `Windows`."""
        window = Window(self._resident.rows, self._order.rows(self._number), self._resident)
        self._number += 1
        return partial(_itself, window)

    def abandon(self) -> None:
        """Nothing is on its way."""


def _itself(window: Window) -> Window:
    return window


class WindowReader:
    """Reads windows of row groups into memory that is used again."""

    def __init__(self, dataset: Dataset, split: str, columns: Sequence[str], size: int) -> None:
        """Prepare to read.

        Args:
            dataset: the dataset.
            split: the split.
            columns: the columns that are needed.
            size: row groups in a window.
        """
        self.layout = layout([dataset.column(name) for name in columns])
        self._groups = list(dataset.groups(split))
        sizes = [shard.row_groups[number].rows for shard, number in self._groups]
        # The largest window there can be: buffers then fit all of them.
        self._rows = sum(sorted(sizes, reverse=True)[:size])
        self._pool = BufferPool(self._rows * self.layout.width, kept=2)
        self._reader = GroupReader(dataset.storage)

    def begin(self, order: Order, first: int) -> "ReadWindows":
        """The windows of an order from `first` on, read while the one before is used."""
        return ReadWindows(self, order, first)

    def load(self, order: Order, number: int, submit: Callable[..., Future[None]]) -> Callable[[], Window]:
        """Begin to read a window; the call that is returned waits for it."""
        lent = self._pool.take()
        there = lent.reshape(self._rows, self.layout.width)
        groups = order.windows[number]
        starts = np.concatenate([[0], np.cumsum([order.groups[group] for group in groups])])
        reads = [
            submit(self._read, group, there, int(start), order.groups[group])
            for group, start in zip(groups, starts, strict=False)
        ]
        rows = order.rows(number)
        # From the row in the split to the row in the window: groups lie there in the order they are read in.
        shift = np.zeros(len(order.groups), np.int64)
        shift[list(groups)] = starts[:-1] - order.starts[list(groups)]
        local = rows + shift[np.searchsorted(order.starts, rows, side="right") - 1]
        return partial(_arrived, Window(there, local, lent), reads)

    def _read(self, group: int, there: Rows, start: int, rows: int) -> None:
        shard, number = self._groups[group]
        size = shard.row_groups[number].rows
        # Of the last row group a limit may want only the first rows.
        whole = there[start : start + size] if rows == size else np.empty((size, there.shape[1]), np.uint8)
        self._reader.read_rows(shard, number, self.layout, whole)
        if rows < size:
            there[start : start + rows] = whole[:rows]


class ReadWindows:
    """Windows of one epoch: one is used while the next one is on its way."""

    def __init__(self, reader: WindowReader, order: Order, first: int) -> None:
        self._reader = reader
        self._order = order
        self._number = first
        self._readers = Daemons(READERS, "ristune-window")
        self._failure: BaseException | None = None
        self._next = reader.load(order, first, self._submit)

    def following(self) -> Callable[[], Window]:
        """The next window; see `Windows`."""
        current = self._next
        self._number += 1
        if self._number < len(self._order.windows):
            self._next = self._reader.load(self._order, self._number, self._submit)
        return current

    def abandon(self) -> None:
        """Reads that have not begun are not made; see `Windows`."""
        self._failure = self._failure or CancelledError()
        self._readers.shutdown(wait=True, cancel_futures=True)

    def _submit(self, read: Callable[..., None], *arguments: object) -> Future[None]:
        return self._readers.submit(self._unless_failed, read, *arguments)

    def _unless_failed(self, read: Callable[..., None], *arguments: object) -> None:
        # One failure is enough: a store that does not answer would make each read wait for its deadline.
        if self._failure is not None:
            raise self._failure
        try:
            read(*arguments)
        except BaseException as error:
            self._failure = self._failure or error
            raise


def _arrived(window: Window, reads: Sequence[Future[None]]) -> Window:
    for read in reads:
        read.result()
    return window
