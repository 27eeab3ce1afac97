"""Footers and single columns of Parquet files, read by ranges."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ristune.errors import InputError
from ristune.storage.access import Reader, Storage

MAGIC = b"PAR1"
# Read at once from the end of a file, where the footer is.
TAIL = 64 * 2**10


def read_footer(storage: Storage, path: str) -> "File":
    """Read a file's footer, by one request where it is no larger than `TAIL`.

    Raises:
        InputError: it is no Parquet file, cannot be read, or two of its columns have one name.
    """
    with storage.open(path) as reader:
        tail = _last(reader, min(TAIL, reader.size))
        # The last 8 bytes are the length of the footer and a mark.
        length = 8 + int.from_bytes(tail[-8:-4], "little")
        if len(tail) < length <= reader.size:
            tail = _last(reader, length)
        size = reader.size
    footer = tail[-length:]
    try:
        # A footer alone is a file to pyarrow as long as no column is read.
        metadata = pq.read_metadata(pa.BufferReader(MAGIC + footer))
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise no_parquet(f"{storage.uri}/{path}", error) from error
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise InputError(f"{storage.uri}/{path}: columns", twice, "a name is used once", "rename one of them")
    return File(path, size, hashlib.sha256(footer).hexdigest(), metadata, schema)


def _last(reader: Reader, count: int) -> bytes:
    buffer = bytearray(count)
    reader.read_into(reader.size - count, memoryview(buffer))
    return bytes(buffer)


def no_parquet(name: str, error: Exception) -> InputError:
    """The error that says pyarrow cannot read a file."""
    text = str(error).splitlines()[0]
    return InputError(name, text, "a Parquet file that can be read is required", "write the file again")


@contextmanager
def open_parquet(storage: Storage, file: "File") -> Iterator[pq.ParquetFile]:
    """A file whose footer is known, to read columns by ranges.

    Raises:
        InputError: it cannot be read, also where pyarrow finds that out inside of the context.
    """
    try:
        with storage.open(file.path) as reader:
            yield pq.ParquetFile(Ranges(reader), metadata=file.footer)
    except (pa.ArrowException, OSError) as error:
        raise no_parquet(f"{storage.uri}/{file.path}", error) from error


@dataclass(frozen=True)
class File:
    """What the footer of a file says.

    Attributes:
        path: relative to the dataset.
        bytes: its size.
        footer_sha256: the hash of its footer.
        footer: as pyarrow reads it.
        schema: its fields.
    """

    path: str
    bytes: int
    footer_sha256: str
    footer: pq.FileMetaData
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """The number of its rows."""
        return int(self.footer.num_rows)


class Ranges(RawIOBase):
    """A file of a storage as Python and pyarrow read files."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self._at = offset + (0, self._at, self._reader.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes, by one request."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._reader.size - self._at))
        if count:
            self._reader.read_into(self._at, view[:count])
        self._at += count
        return count
