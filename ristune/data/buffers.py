"""Memory that is lent out and comes back by itself: a fresh allocation would cost as much as filling it."""

import mmap
import weakref
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

# From this many bytes on memory is asked of the system, below it of the allocator, which is faster.
LARGE = 1 << 20


class BufferPool:
    """Buffers of one size.

    A buffer is lent as an array object of its own; when that object is gone, and all that was made of it with
    numpy or torch, the buffer is free again.
    """

    def __init__(self, size: int, kept: int, pinned: bool = False) -> None:
        """Make an empty pool.

        Args:
            size: bytes of a buffer.
            kept: how many free buffers are kept; more are given back to the system.
            pinned: whether the memory is page-locked, so that it is copied to a GPU beside other work.
        """
        self._size = size
        self._pinned = pinned
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=kept)

    def take(self) -> NDArray[np.uint8]:
        """Lend a buffer, [size], uint8, of any content; safe to call from several threads."""
        try:
            owner = self._free.pop()
        except IndexError:
            owner = _pinned(self._size) if self._pinned else _plain(self._size)
        # Not a slice: views of one refer to the owner of the memory, and would let this object go.
        lent = np.frombuffer(owner.data, np.uint8)
        weakref.finalize(lent, self._free.append, owner).atexit = False
        return lent


def _pinned(size: int) -> NDArray[np.uint8]:
    owner: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
    return owner


def _plain(size: int) -> NDArray[np.uint8]:
    """Memory, in huge pages if it is large and the system has them: the first write then costs a tenth."""
    if size < LARGE:
        return np.empty(size, np.uint8)
    # Private: shared memory, the default, has no huge pages on most systems.
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8, size)
