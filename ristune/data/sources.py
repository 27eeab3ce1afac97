"""Samples gathered on the CPU: from rows in memory, or from row groups that are read for a while."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch

from ristune.data.cache import Resident
from ristune.data.gather import Batch, Gatherer, RowWindow, Window
from ristune.data.layout import Rows
from ristune.data.order import Order
from ristune.data.prefetch import ahead, moved

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
        there = [(window(), a, b) for a, b, window in parts]
        return self._gatherer.gather(self._pool, there, alone=threads == 0)

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
        window = RowWindow(self._resident.rows, self._order.rows(self._number), self._resident)
        self._number += 1
        return partial(_itself, window)

    def abandon(self) -> None:
        """Nothing is on its way."""


def _itself(window: Window) -> Window:
    return window
