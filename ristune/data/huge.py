"""Rows in huge pages: from small ones a gather waits for the page tables with every sample."""

import errno
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristune.data.libc import MADV_COLLAPSE, MAP_NORESERVE, advise, map_over, reserved

# Where Linux says how large its huge pages are.
PAGE_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


def huge_page() -> int:
    """The bytes of a huge page; 0 where the system has none."""
    return int(PAGE_SIZE.read_text()) if PAGE_SIZE.is_file() else 0


def mapped(descriptor: int, size: int) -> NDArray[np.uint8]:
    """A file in memory, [size], uint8, in huge pages where the file has them.

    The mapping is private: what is written to it stays in its process. What is not written to lies in the
    pages of the file, which all processes share.

    Args:
        descriptor: the file.
        size: its bytes.

    Raises:
        OSError: it cannot be mapped.
    """
    # Not reserved: Linux refuses to promise more memory than there is, and none is written to.
    return _mapped(descriptor, size, mmap.MAP_PRIVATE | MAP_NORESERVE)


class Collapsed:
    """Gives a file huge pages before it is written, in file systems that make none by themselves.

    A file in shared memory has pages of 4 kB on most systems, whatever their size could be; only
    MADV_COLLAPSE (Linux 6.1) makes huge ones of them. Writing to those is faster, too.
    """

    def __init__(self, descriptor: int, size: int, spans: Iterable[tuple[int, int]]) -> None:
        """Find the pages.

        Args:
            descriptor: the file, open for writing.
            size: its bytes; holes need not be filled.
            spans: first and last byte of what is going to be written, whatever is there now.
        """
        self._descriptor = descriptor
        self._page = huge_page()
        self._left: set[int] = set()
        self._made: set[int] = set()
        if self._page:
            for first, last in spans:
                # Whole ones only: beside them lies what is not to be written, or nothing that takes room.
                self._left.update(range(-(-first // self._page), last // self._page))
        self._memory = np.empty(0, np.uint8)
        if self._left:
            try:
                self._memory = _mapped(descriptor, size, mmap.MAP_SHARED)
            except OSError:
                # Some network file systems do not share memory; small pages do as well.
                self._left.clear()

    def prepared(self, first: int, last: int) -> NDArray[np.uint8] | None:
        """The memory of a range of the file, to be written to; None if not all of it is in huge pages now.

        What was in the range is lost, in either case.

        Raises:
            OSError: there is no room for it.
        """
        numbers = range(first // self._page, -(-last // self._page)) if self._page else range(0)
        for number in numbers:
            self._collapse(number)
        return self._memory[first:last] if numbers and self._made.issuperset(numbers) else None

    def holds(self, memory: NDArray[np.uint8]) -> bool:
        """Whether this is memory of the file, as `prepared` gives it."""
        first = self._memory.ctypes.data
        return first <= memory.ctypes.data < first + self._memory.nbytes

    def _collapse(self, number: int) -> None:
        if number not in self._left:
            return
        self._left.remove(number)
        # A page of which nothing is there cannot be collapsed.
        os.pwrite(self._descriptor, b"\0", number * self._page)
        failed = advise(self._memory[number * self._page :][: self._page], MADV_COLLAPSE)
        if not failed:
            # A disk gives pages before it has room for them, and memory without room ends the process.
            os.posix_fallocate(self._descriptor, number * self._page, self._page)
            self._made.add(number)
        elif failed != errno.EAGAIN:
            # Small pages do as well: an old kernel, or one short of huge pages, has no more of them.
            self._left.clear()


def _mapped(descriptor: int, size: int, flags: int) -> NDArray[np.uint8]:
    page, access = huge_page(), mmap.PROT_READ | mmap.PROT_WRITE
    if not 0 < page <= size:
        return np.frombuffer(mmap.mmap(descriptor, size, flags, access), np.uint8)
    # Huge pages need an address that is a multiple of them, which not all file systems choose.
    around = reserved(size + page)
    skipped = -around.ctypes.data % page
    target = around[skipped : skipped + size]
    map_over(target, descriptor, flags, access)
    advise(target, mmap.MADV_HUGEPAGE)
    return target
