"""Row groups by byte range, for what is not kept whole."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from ristune.data.columns import Column
from ristune.data.foreign.files import Foreign, read_foreign_group
from ristune.data.manifest import RowGroup, Shard
from ristune.data.shards import cut, damaged
from ristune.errors import InputError
from ristune.storage.access import Reader, Storage
from ristune.storage.fetch import READS

# Files held open by a reader of row groups.
OPEN_FILES = 128

Arrays = Mapping[str, NDArray[Any]]


class GroupReader:
    """Row groups of a dataset by byte range, every chunk checked by its CRC; safe for several threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._opening: dict[str, Lock] = {}
        self._lock = Lock()

    def read(
        self, shard: Shard, number: int, columns: Sequence[Column], buffer: memoryview | None = None
    ) -> Arrays:
        """Columns of a row group.

        Args:
            shard: the shard.
            number: which of its row groups.
            columns: the columns to read.
            buffer: memory to read into, at least the bytes of the row group; new where it is not given.

        Returns:
            One array [rows, *shape] for each column, of its stored dtype, in the memory of the buffer.

        Raises:
            InputError: it cannot be read, or is not what the manifest says.
        """
        if isinstance(shard, Foreign):
            return read_foreign_group(self._storage, shard, number, columns)
        group = shard.row_groups[number]
        memory = memoryview(bytearray(group.bytes)) if buffer is None else buffer[: group.bytes]
        reader = self._reader(shard.path)
        wrong: list[str] = []
        for _ in range(READS):
            for first, last in _ranges(group, columns):
                reader.read_into(first, memory[first - group.offset : last - group.offset])
            wrong = damaged(memory, group.offset, group, columns)
            if not wrong:
                return cut(memory, group.offset, group, columns)
        name = f"{self._storage.uri}/{shard.path}"
        rule = f"the bytes are not those that the manifest gives the CRC of, in {READS} reads"
        where = f"row group {number}, column {', '.join(wrong)}"
        raise InputError(name, where, rule, "copy the file again, or write the dataset again")

    def _reader(self, path: str) -> Reader:
        with self._lock:
            if path in self._readers:
                self._readers.move_to_end(path)
                return self._readers[path]
            opening = self._opening.setdefault(path, Lock())
        # A lock a file: who waits for a store that does not answer keeps nobody from other files.
        with opening:
            with self._lock:
                found = self._readers.get(path)
            reader = found or self._storage.open(path)
            with self._lock:
                self._readers[path] = reader
                while len(self._readers) > OPEN_FILES:
                    # Not closed: a thread may be reading it, and the last one that does lets it go.
                    self._readers.popitem(last=False)
            return reader


def _ranges(group: RowGroup, columns: Sequence[Column]) -> list[tuple[int, int]]:
    """The byte ranges of columns in the file, first and last byte; those that touch are joined."""
    joined: list[tuple[int, int]] = []
    for chunk in sorted((group.columns[column.name] for column in columns), key=lambda chunk: chunk.offset):
        if joined and joined[-1][1] == chunk.offset:
            joined[-1] = joined[-1][0], chunk.offset + chunk.length
        else:
            joined.append((chunk.offset, chunk.offset + chunk.length))
    return joined
