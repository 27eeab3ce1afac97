"""A whole file into memory by parallel ranges, its hash checked before anyone sees a byte."""

import hashlib
from concurrent.futures import Executor, Future, wait

import numpy as np

from ristune.errors import InputError
from ristune.storage.access import Reader, Storage
from ristune.storage.objects import RANGE_BYTES

# How often a file is read before its bytes are called wrong.
READS = 3


def fetch(storage: Storage, path: str, size: int, sha256: str, pool: Executor) -> memoryview:
    """A file whose length and hash are known, read by ranges of `RANGE_BYTES` at once.

    A store or a network may hand over wrong bytes without an error: on a wrong hash the file is read again.

    Args:
        storage: where it lies.
        path: which file.
        size: its bytes.
        sha256: of its content, hexadecimal; empty where it is not known, and then nothing is checked.
        pool: runs the reads; this call itself must not run on it.

    Returns:
        The content, writable, one byte an item.

    Raises:
        InputError: it is missing or cannot be read, its length is another, or its hash is wrong every time.
    """
    buffer = np.empty(size, np.uint8).data
    digests: list[str] = []
    name = f"{path} of {storage.uri}"
    with open_sized(storage, path, size) as reader:
        while len(digests) < READS:
            digest = _read(reader, buffer, pool)
            if digest == sha256 or not sha256:
                return buffer
            digests.append(digest)
            if digest in digests[:-1]:
                rule = f"its sha256 must be {sha256}; the same other bytes came twice, so they are stored so"
                raise InputError(name, digest, rule, "the file was altered: copy or write it again")
    rule = f"its sha256 must be {sha256}; {READS} reads gave as many other contents"
    remedy = "the network or the store corrupts data: check them, then try again"
    raise InputError(name, ", ".join(digests), rule, remedy)


def open_sized(storage: Storage, path: str, size: int) -> Reader:
    """A file held open whose length is known.

    Raises:
        InputError: it is missing, may not be read, or its length is another.
    """
    reader = storage.open(path)
    if reader.size != size:
        name, rule = f"{path} of {storage.uri}", f"a file of {size} bytes is required"
        raise InputError(name, f"{reader.size} bytes", rule, "it was altered: copy or write it again")
    return reader


def _read(reader: Reader, buffer: memoryview, pool: Executor) -> str:
    """Fill the buffer; its digest, computed in order while later ranges are still on their way."""
    starts = range(0, len(buffer), RANGE_BYTES)
    parts = [buffer[start : start + RANGE_BYTES] for start in starts]
    reads: list[Future[None]] = [pool.submit(reader.read_into, *at) for at in zip(starts, parts, strict=True)]
    digest = hashlib.sha256()
    try:
        for read, part in zip(reads, parts, strict=True):
            read.result()
            digest.update(part)
    finally:
        # None may write into the buffer, or use the reader, after this call.
        for read in reads:
            read.cancel()
        wait(reads)
    return digest.hexdigest()
