"""The order of samples in an epoch: a pure function of what is passed in."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Goes up with any change below, so that an order is never silently another one.
ALGORITHM = 2

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Order:
    """One epoch, window by window: samples of a few row groups, mixed, then those of the next few.

    A reader needs the row groups of two windows in memory and no more, and starts in the middle as easily as
    at the start. Groups are dealt to windows at random, and a window's samples are visited in random order;
    where all groups make one window, an epoch is a random permutation. Neither the global generators of numpy
    and torch nor threads, batch size, device or the way data is read have any part in it.

    Attributes:
        key: what the order depends on beside the samples: dataset, seed and epoch.
        groups: the number of samples of each row group; the last may be cut short.
        window: row groups in a window.
        shuffle: whether there is an order of the epoch's own, or that of the dataset.
        keep: whether a sample is visited, [samples], bool; all are where it is not given.
    """

    key: tuple[str, int, int]
    groups: tuple[int, ...]
    window: int
    shuffle: bool
    keep: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """The number of samples in the epoch."""
        return int(self.bounds[-1])

    @cached_property
    def starts(self) -> Indices:
        """The first sample of each row group, and last the number of samples, [G + 1]."""
        return np.concatenate([[0], np.cumsum(self.groups)]).astype(np.int64)

    @cached_property
    def windows(self) -> tuple[tuple[int, ...], ...]:
        """The row groups of each window, in order; groups without a sample to visit are left out."""
        dealt = range(len(self.groups))
        if self.shuffle:
            dealt = np.argsort(self._words("groups", len(self.groups)), kind="stable").tolist()
        wanted = [group for group in dealt if self._kept[group]]
        return tuple(tuple(wanted[i : i + self.window]) for i in range(0, len(wanted), self.window))

    @cached_property
    def bounds(self) -> Indices:
        """Where each window starts in the epoch, and last where the epoch ends, [W + 1]."""
        sizes = [sum(int(self._kept[group]) for group in window) for window in self.windows]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def rows(self, window: int) -> Indices:
        """The samples of a window in the order in which they are visited, [n], int64."""
        groups = self.windows[window]
        rows = np.concatenate([np.arange(self.starts[group], self.starts[group + 1]) for group in groups])
        if self.shuffle:
            # By the group that comes first in it: the number of a window says nothing of what is in it.
            rows = rows[np.argsort(self._words(f"window {groups[0]}", len(rows)), kind="stable")]
        return rows if self.keep is None else rows[self.keep[rows]]

    @cached_property
    def _kept(self) -> Indices:
        """How many samples of each row group are visited, [G]."""
        if self.keep is None:
            return np.asarray(self.groups, dtype=np.int64)
        counted = np.concatenate([[0], np.cumsum(self.keep)])
        return np.asarray(counted[self.starts[1:]] - counted[self.starts[:-1]], dtype=np.int64)

    def _words(self, purpose: str, count: int) -> NDArray[np.uint64]:
        text = json.dumps([ALGORITHM, *self.key, purpose])
        key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u8")
        # The raw words of Philox are fixed for all releases of numpy; `Generator.permutation` may change.
        words: NDArray[np.uint64] = np.random.Philox(key=key.astype(np.uint64)).random_raw(count)
        return words


def cut(groups: Sequence[int], rows: int) -> tuple[int, ...]:
    """The sizes of the row groups that hold the first `rows` samples, the last one cut short."""
    kept, left = [], rows
    for size in groups:
        if left <= 0:
            break
        kept.append(min(size, left))
        left -= size
    return tuple(kept)
