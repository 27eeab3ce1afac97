"""One range of a file, as tests ask for it."""

from ristune.storage.access import Storage


def ranged(storage: Storage, path: str, offset: int, length: int) -> bytes:
    """Exactly `length` bytes from `offset` on."""
    buffer = bytearray(length)
    with storage.open(path) as reader:
        reader.read_into(offset, memoryview(buffer))
    return bytes(buffer)
