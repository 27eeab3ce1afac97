"""Windows of row groups, read while the one before is used."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Protocol

import numpy as np

from ristune.data.buffers import BufferPool
from ristune.data.dataset import Dataset
from ristune.data.gather import RowWindow, Window
from ristune.data.layout import Layout, Rows, layout
from ristune.data.order import Indices, Order
from ristune.data.reading import GroupReader
from ristune.data.scatter import READERS
from ristune.data.threads import Daemons

Submit = Callable[..., Future[None]]


class Loads(Protocol):
    """What brings windows into memory.

    Attributes:
        layout: the layout of their samples.
        threads: how many it is best called in at once.
    """

    layout: Layout
    threads: int

    def load(self, order: Order, number: int, submit: Submit) -> Callable[[], Window]:
        """Begin to bring a window; the call that is returned waits for it.

        Args:
            order: the order it is a window of.
            number: which one.
            submit: runs a call in a thread.
        """


class RowReader:
    """Reads windows into rows, in memory that is used again."""

    threads = READERS

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

    def load(self, order: Order, number: int, submit: Submit) -> Callable[[], Window]:
        """Begin to read a window; see `Loads.load`."""
        lent = self._pool.take()
        there = lent.reshape(self._rows, self.layout.width)
        groups = order.windows[number]
        starts = np.concatenate([[0], np.cumsum([order.groups[group] for group in groups])])
        reads = [
            submit(self._read, group, there, int(start), order.groups[group])
            for group, start in zip(groups, starts, strict=False)
        ]
        _, _, chosen = located(order, number)
        return partial(arrived, RowWindow(there, chosen, lent), reads)

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

    def __init__(self, reader: Loads, order: Order, first: int) -> None:
        self._reader = reader
        self._order = order
        self._number = first
        self._readers = Daemons(reader.threads, "ristune-window")
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


def located(order: Order, number: int) -> tuple[Indices, Indices, Indices]:
    """Where the samples of a window are, in their order.

    Args:
        order: the order.
        number: which of its windows.

    Returns:
        Of each sample its row group, its row in that, and its row in the window if row groups lie there one
        after another as they are read, [n] each.
    """
    groups, rows = list(order.windows[number]), order.rows(number)
    starts = np.concatenate([[0], np.cumsum([order.groups[group] for group in groups])])
    first = np.zeros(len(order.groups), np.int64)
    first[groups] = starts[:-1]
    group = np.searchsorted(order.starts, rows, side="right") - 1
    row = rows - order.starts[group]
    return group, row, first[group] + row


def arrived(window: Window, reads: Sequence[Future[None]]) -> Window:
    """Wait for reads, and hand on what they were for."""
    for read in reads:
        read.result()
    return window
