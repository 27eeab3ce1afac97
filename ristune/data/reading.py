"""Shards to rows: whole files for what is kept, row groups by byte range for what is not."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from ristune.data.buffers import BufferPool
from ristune.data.columns import Column
from ristune.data.foreign.files import Foreign, decode_foreign, read_foreign_group
from ristune.data.manifest import RowGroup, Shard
from ristune.data.shards import cut, damaged
from ristune.errors import InputError
from ristune.storage.access import Reader, Storage
from ristune.storage.fetch import fetch

# Requests under way at once, for one shard.
READERS = 8
# Files held open by a reader of row groups.
OPEN_FILES = 128
# Shards under way at once: while the end of one is hashed, the next one is on its way.
AHEAD = 2
# How often bytes are asked for again that are not what the manifest says: the way may have altered them.
READS = 3

Arrays = Mapping[str, NDArray[Any]]
# The pieces of a whole shard: the first row of each, and its columns.
Pieces = Callable[[memoryview, Shard, Sequence[Column]], Iterator[tuple[int, Arrays]]]


def pieces(data: memoryview, shard: Shard, columns: Sequence[Column]) -> Iterator[tuple[int, Arrays]]:
    """The row groups of a shard whose hash has been checked, without a copy; see `shards.cut`."""
    if isinstance(shard, Foreign):
        yield 0, decode_foreign(data, shard, columns)
        return
    first = 0
    for group in shard.row_groups:
        yield first, cut(data, 0, group, columns)
        first += group.rows


def read_shards(
    storage: Storage, shards: Sequence[Shard], columns: Sequence[Column], of: Pieces
) -> Iterator[Iterator[tuple[int, Arrays]]]:
    """Whole shards, one after the other; the next one is fetched while the last one is used.

    Args:
        storage: the dataset.
        shards: which, in order.
        columns: the columns to read.
        of: how a shard is decoded.

    Yields:
        For each shard its pieces.

    Raises:
        InputError: a shard cannot be read, or is not what the manifest says.
    """
    pool = BufferPool(max((shard.bytes for shard in shards), default=0), kept=AHEAD)
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(AHEAD) as ahead:

        def read(shard: Shard) -> memoryview:
            memory = memoryview(pool.take().data)
            return fetch(storage, shard.path, shard.bytes, shard.sha256, readers, memory)

        coming: deque[Future[memoryview]] = deque()
        for index, shard in enumerate(shards):
            for following in shards[index + len(coming) : index + AHEAD]:
                coming.append(ahead.submit(read, following))
            yield of(coming.popleft().result(), shard, columns)


class GroupReader:
    """Row groups of a dataset by byte range, every chunk checked by its CRC; safe for several threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._readers: OrderedDict[str, Reader] = OrderedDict()
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
        # Not under the lock: other files need not wait for a store that does not answer.
        opened = self._storage.open(path)
        with self._lock:
            reader = self._readers.setdefault(path, opened)
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
