"""Row groups by byte range, for what is not kept whole."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from ristune.data.assembly import Assembly
from ristune.data.buffers import BufferPool
from ristune.data.columns import Column
from ristune.data.foreign.files import Foreign, read_foreign_group
from ristune.data.layout import Layout, Rows, write_columns
from ristune.data.manifest import RowGroup, Shard
from ristune.data.scatter import READERS
from ristune.data.shards import cut, damage, damaged
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
        self._pools: dict[int, BufferPool] = {}
        self._lock = Lock()

    def read(self, shard: Shard, number: int, columns: Sequence[Column]) -> Arrays:
        """Columns of a row group.

        Args:
            shard: the shard.
            number: which of its row groups.
            columns: the columns to read.

        Returns:
            One array [rows, *shape] for each column, of its stored dtype.

        Raises:
            InputError: it cannot be read, or is not what the manifest says.
        """
        if isinstance(shard, Foreign):
            return read_foreign_group(self._storage, shard, number, columns)
        group = shard.row_groups[number]
        memory = memoryview(bytearray(group.bytes))

        def read() -> list[str]:
            for reader, first, last in self._ranges(shard, group, columns):
                reader.read_into(first, memory[first - group.offset : last - group.offset])
            return damaged(memory, group.offset, group, columns)

        self._until_sound(read, shard, number)
        return cut(memory, group.offset, group, columns)

    def read_rows(self, shard: Shard, number: int, layout: Layout, rows: Rows) -> None:
        """Rows of a row group, put together while they are read.

        Args:
            shard: the shard.
            number: which of its row groups.
            layout: the layout of the rows, of the columns to read.
            rows: where they go, [rows of the group, width].

        Raises:
            InputError: it cannot be read, or is not what the manifest says.
        """
        if isinstance(shard, Foreign):
            write_columns(rows, layout, read_foreign_group(self._storage, shard, number, layout.columns))
            return
        group = shard.row_groups[number]

        def read() -> list[str]:
            assembly = Assembly(group, layout, rows)
            for reader, first, last in self._ranges(shard, group, layout.columns):
                for start in range(first, last, reader.request_bytes):
                    size = min(reader.request_bytes, last - start)
                    piece = self._pieces(reader.request_bytes).take()[:size]
                    reader.read_into(start, piece.data)
                    assembly.take(start, piece)
            return assembly.damaged()

        self._until_sound(read, shard, number)

    def _until_sound(self, read: Callable[[], list[str]], shard: Shard, number: int) -> None:
        """Read again what is damaged: `read` returns the columns that are."""
        wrong: list[str] = []
        for _ in range(READS):
            wrong = read()
            if not wrong:
                return
        raise damage(self._storage.uri, shard, number, wrong, READS)

    def _ranges(
        self, shard: Shard, group: RowGroup, columns: Sequence[Column]
    ) -> Iterator[tuple[Reader, int, int]]:
        """The byte ranges of columns in the file, first and last byte; those that touch are joined."""
        joined: list[tuple[int, int]] = []
        chunks = (group.columns[column.name] for column in columns)
        for chunk in sorted(chunks, key=lambda chunk: chunk.offset):
            if joined and joined[-1][1] == chunk.offset:
                joined[-1] = joined[-1][0], chunk.offset + chunk.length
            else:
                joined.append((chunk.offset, chunk.offset + chunk.length))
        reader = self._reader(shard.path)
        yield from ((reader, first, last) for first, last in joined)

    def _pieces(self, size: int) -> BufferPool:
        with self._lock:
            return self._pools.setdefault(size, BufferPool(size, kept=READERS))

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
