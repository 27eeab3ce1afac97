"""What Python does not say to the kernel: at which address a file is to be mapped, and what to do with it."""

import ctypes
import mmap
import os
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Of Linux' mman.h.
MAP_FIXED, MAP_NORESERVE = 0x10, 0x4000
MADV_POPULATE_READ, MADV_COLLAPSE = 22, 25


def reserved(size: int) -> NDArray[np.uint8]:
    """Addresses for files to be mapped to, [size], uint8; they go with the last view of them.

    Raises:
        OSError: there are not so many.
    """
    access = mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, size, flags, access), np.uint8)


def map_over(memory: NDArray[np.uint8], descriptor: int, flags: int, access: int) -> None:
    """Map a file from its first byte on over reserved memory, which starts on a page.

    Raises:
        OSError: it cannot be mapped.
    """
    address = memory.ctypes.data
    if _libc().mmap(address, memory.nbytes, access, flags | MAP_FIXED, descriptor, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def advise(memory: NDArray[np.uint8], advice: int) -> int:
    """Advise the kernel about memory that starts on a page; the number of the error, or 0."""
    return ctypes.get_errno() if _libc().madvise(memory.ctypes.data, memory.nbytes, advice) else 0


def resident(memory: NDArray[np.uint8]) -> bool:
    """Whether a file's bytes are all in the system's memory; the start lies on a page.

    Of a file that this user may not write to Linux says so in any case.
    """
    pages = np.empty(-(-memory.nbytes // mmap.PAGESIZE), np.uint8)
    failed = _libc().mincore(memory.ctypes.data, memory.nbytes, pages.ctypes.data)
    return not failed and bool((pages & 1).all())


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = (ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    libc.mmap.argtypes, libc.mmap.restype = (ctypes.c_void_p, *numbers), ctypes.c_void_p
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return libc
