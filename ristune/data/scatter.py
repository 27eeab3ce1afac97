"""Shards into planes while they arrive: no shard is ever whole in memory."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from typing import Any

from numpy.typing import NDArray

from ristune.data.buffers import BufferPool
from ristune.data.foreign.files import Foreign, decode_foreign
from ristune.data.layout import Layout, pack
from ristune.data.manifest import RowGroup, Shard
from ristune.data.shards import cut
from ristune.data.threads import Daemons
from ristune.storage.access import Reader, Storage
from ristune.storage.fetch import RANGE_BYTES, fetch, open_sized

# Requests under way at once.
READERS = 6
# Ranges that have arrived or are on their way, beside those: enough that neither side waits for the other.
WAITING = 2

# Puts bytes into a plane, by its number, from a byte on that is counted from the plane's first.
Put = Callable[[int, int, memoryview], None]


def scatter_shards(
    storage: Storage, shards: Sequence[tuple[Shard, int]], layout: Layout, put: Put
) -> Iterator[Shard]:
    """Read shards by ranges, several at once, and put their rows into planes as they come.

    Rows are put before the hash of their shard is known: they count only when the shard is yielded.

    Args:
        storage: the dataset.
        shards: which, in order, each with the row its first one is.
        layout: the layout of the planes.
        put: takes the rows.

    Yields:
        Each shard when all its rows are there and its hash is right.

    Raises:
        InputError: a shard cannot be read, or is not what the manifest says.
    """
    columns = [column for _, column, _ in layout.places.values()]
    largest = max((min(shard.bytes, RANGE_BYTES) for shard, _ in shards), default=0)
    pool = BufferPool(largest, kept=READERS + WAITING)
    ours = [shard for shard, _ in shards if not isinstance(shard, Foreign)]
    with (
        Daemons(READERS, "ristune-fetch") as readers,
        closing(_ranges(storage, ours, pool, readers)) as arriving,
    ):
        for shard, first in shards:
            target = _Target(shard, first, layout, put)
            if isinstance(shard, Foreign):
                whole = fetch(storage, shard.path, shard.bytes, shard.sha256, readers)
                target.put_rows(decode_foreign(whole, shard, columns, storage.uri))
            else:
                digest = hashlib.sha256()
                for offset in range(0, shard.bytes, RANGE_BYTES):
                    data = next(arriving)
                    digest.update(data)
                    target.take(offset, data)
                if digest.hexdigest() != shard.sha256:
                    # Whole: that tells bytes that were altered on the way from those that are stored so.
                    target.take(0, fetch(storage, shard.path, shard.bytes, shard.sha256, readers))
            yield shard


def _ranges(
    storage: Storage, shards: Sequence[Shard], pool: BufferPool, readers: Daemons
) -> Generator[memoryview, None, None]:
    """The ranges of all shards in order, read ahead across the ends of shards."""
    under_way: deque[Future[memoryview]] = deque()
    try:
        for shard in shards:
            # Before its ranges in the queue of the threads, which they wait in too: it is never behind them.
            opened = readers.submit(open_sized, storage, shard.path, shard.bytes)
            for offset in range(0, shard.bytes, RANGE_BYTES):
                under_way.append(readers.submit(_read, opened, shard, offset, pool))
                if len(under_way) >= READERS + WAITING:
                    yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for read in under_way:
            read.cancel()
        wait(under_way)


def _read(opened: Future[Reader], shard: Shard, offset: int, pool: BufferPool) -> memoryview:
    reader = opened.result()
    data = memoryview(pool.take().data)[: min(RANGE_BYTES, shard.bytes - offset)]
    reader.read_into(offset, data)
    return data


class _Target:
    """Where the bytes of one shard go."""

    def __init__(self, shard: Shard, first: int, layout: Layout, put: Put) -> None:
        self._shard = shard
        self._first = first
        self._layout = layout
        self._put = put
        # What has arrived of the narrow columns of each row group that is not complete yet, by name.
        self._narrow: dict[int, dict[str, bytearray]] = {}

    def take(self, offset: int, data: memoryview) -> None:
        """Put what these bytes of the file hold.

        Args:
            offset: of the first one in the file.
            data: the bytes; those before it have been taken.
        """
        if offset == 0:
            self._narrow.clear()
        end, row = offset + len(data), self._first
        for number, group in enumerate(self._shard.row_groups):
            if group.offset < end and group.offset + group.bytes > offset:
                self._take_group(number, group, row, offset, data)
            row += group.rows

    def put_rows(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Put the columns of the whole shard, [rows, *shape] each."""
        for number in range(len(self._layout.planes)):
            self._put_plane(number, self._first, arrays)

    def _put_plane(self, number: int, row: int, arrays: dict[str, NDArray[Any]]) -> None:
        plane = self._layout.planes[number]
        self._put(number, row * plane.width, memoryview(pack(plane, arrays).data).cast("B"))

    def _take_group(self, number: int, group: RowGroup, row: int, offset: int, data: memoryview) -> None:
        for plane_number, plane in enumerate(self._layout.planes):
            if plane.wide:
                (column,) = plane.columns
                chunk = group.columns[column.name]
                start = chunk.offset + chunk.length - group.rows * plane.width
                low, high = max(start, offset), min(chunk.offset + chunk.length, offset + len(data))
                if low < high:
                    self._put(
                        plane_number, row * plane.width + low - start, data[low - offset : high - offset]
                    )
            else:
                self._take_narrow(number, group, plane_number, row, offset, data)

    def _take_narrow(
        self, number: int, group: RowGroup, plane_number: int, row: int, offset: int, data: memoryview
    ) -> None:
        """Keep the few bytes of narrow columns until all of a row group's are there, then put their rows."""
        plane = self._layout.planes[plane_number]
        kept = self._narrow.setdefault(number, {})
        for column in plane.columns:
            chunk = group.columns[column.name]
            low, high = max(chunk.offset, offset), min(chunk.offset + chunk.length, offset + len(data))
            if low < high:
                # In order: what is here already is what comes before.
                kept.setdefault(column.name, bytearray()).extend(data[low - offset : high - offset])
        if sum(map(len, kept.values())) == sum(group.columns[column.name].length for column in plane.columns):
            arrays: dict[str, NDArray[Any]] = {}
            for column in plane.columns:
                arrays |= cut(
                    memoryview(kept[column.name]), group.columns[column.name].offset, group, [column]
                )
            self._put_plane(plane_number, row, arrays)
            del self._narrow[number]
