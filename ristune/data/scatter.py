"""Shards into rows while they arrive: no shard is ever whole in memory."""

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from itertools import accumulate
from typing import Protocol

import numpy as np

from ristune.data.assembly import Assembly
from ristune.data.buffers import BufferPool
from ristune.data.foreign.files import Foreign, decode_foreign
from ristune.data.layout import Layout, Rows, write_columns
from ristune.data.manifest import Shard
from ristune.data.threads import Daemons
from ristune.storage.access import Reader, Storage
from ristune.storage.fetch import fetch, open_sized
from ristune.storage.objects import RANGE_BYTES

# Requests under way at once: more than cores, since they wait for the network.
READERS = min(16, 2 + (os.cpu_count() or 2))
# Ranges that have arrived or are on their way, beside those: enough that neither side waits for the other.
WAITING = 1


class Sink(Protocol):
    """Where rows go."""

    def room(self, first: int, count: int) -> Rows:
        """Memory for so many rows, [count, width], to be written to and put."""

    def put(self, first: int, rows: Rows) -> None:
        """Take rows that were written to such memory."""


def scatter_shards(
    storage: Storage, shards: Sequence[tuple[Shard, int]], layout: Layout, sink: Sink
) -> Iterator[Shard]:
    """Read shards by ranges, several at once, and put their rows as they come.

    Rows are put before the hash of their shard is known: they count only when the shard is yielded.

    Args:
        storage: the dataset.
        shards: which, in order, each with the row its first one is.
        layout: the layout of the rows, of all columns of the shards.
        sink: takes the rows.

    Yields:
        Each shard when all its rows are there and its hash is right.

    Raises:
        InputError: a shard cannot be read, or is not what the manifest says.
    """
    largest = max((min(shard.bytes, RANGE_BYTES) for shard, _ in shards), default=0)
    pool = BufferPool(largest, kept=READERS + WAITING)
    ours = [shard for shard, _ in shards if not isinstance(shard, Foreign)]
    with (
        Daemons(READERS, "ristune-fetch") as readers,
        Daemons(1, "ristune-hash") as hasher,
        closing(_ranges(storage, ours, pool, readers)) as arriving,
    ):
        for shard, first in shards:
            if isinstance(shard, Foreign):
                whole = fetch(storage, shard.path, shard.bytes, shard.sha256, readers)
                rows = sink.room(first, shard.rows)
                write_columns(rows, layout, decode_foreign(whole, shard, layout.columns, storage.uri))
                sink.put(first, rows)
            else:
                target, digest = _Target(shard, first, layout, sink), hashlib.sha256()
                hashed: Future[None] | None = None
                for offset in range(0, shard.bytes, RANGE_BYTES):
                    data = next(arriving)
                    if hashed:
                        hashed.result()
                    hashed = hasher.submit(digest.update, data)
                    target.take(offset, data)
                if hashed:
                    hashed.result()
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
    """Where the bytes of one shard go: row groups are put together from what arrives of their columns."""

    def __init__(self, shard: Shard, first: int, layout: Layout, sink: Sink) -> None:
        starts = accumulate((group.rows for group in shard.row_groups), initial=first)
        self._groups = list(zip(starts, shard.row_groups, strict=False))
        self._layout = layout
        self._sink = sink
        # Those of which some bytes have arrived and not all, by number.
        self._begun: dict[int, Assembly] = {}

    def take(self, offset: int, data: memoryview) -> None:
        """Put what these bytes of the file hold.

        Args:
            offset: of the first one in the file.
            data: the bytes; those before it have been taken.
        """
        if offset == 0:
            self._begun.clear()
        end = offset + len(data)
        for number, (row, group) in enumerate(self._groups):
            if group.offset < end and group.offset + group.bytes > offset:
                if number not in self._begun:
                    rows = self._sink.room(row, group.rows)
                    self._begun[number] = Assembly(group, self._layout, rows)
                if self._begun[number].take(offset, np.frombuffer(data, np.uint8)):
                    self._sink.put(row, self._begun.pop(number).rows)
