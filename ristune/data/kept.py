"""The files of one split or table that a node keeps: its rows, what is there of them, and who fills them."""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from ristune.data.entries import RESERVED, ROWS, write_whole
from ristune.data.huge import Collapsed, mapped
from ristune.data.layout import Layout, Rows
from ristune.data.manifest import Shard
from ristune.errors import InputError

# File systems give room in multiples of it.
PAGE = 4096


@dataclass(frozen=True)
class Unit:
    """What is kept as one file: a split, or a table.

    Attributes:
        name: its name, used in the names of its files.
        layout: how its rows lie.
        shards: the files it is fetched from, in order.
    """

    name: str
    layout: Layout
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """The rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def size(self) -> int:
        """The bytes of the file: of all rows, in whole pages, which is what they take."""
        return -(-self.rows * self.layout.width // PAGE) * PAGE

    def bytes_of(self, shards: Sequence[int]) -> int:
        """The bytes of the rows of some shards, by number."""
        return sum(self.shards[index].rows for index in shards) * self.layout.width


class Kept:
    """A unit in the entry of its dataset; whoever uses it holds the entry."""

    def __init__(self, folder: Path, unit: Unit) -> None:
        self.unit = unit
        self.folder = folder
        self._size = unit.size
        self._rows = folder / f"{unit.name}{ROWS}"
        self._done = folder / f"{unit.name}.done"
        self._failure = folder / f"{unit.name}.failure"
        self._reserved = folder / f"{unit.name}{RESERVED}"
        # Held by the process that fills it, whose number is written in it.
        self.lock = folder / f"{unit.name}.filling"

    def missing(self, shards: int) -> list[int]:
        """The first shards that are not here yet."""
        try:
            found = self._rows.stat()
            lines = self._done.read_bytes().splitlines()
        except FileNotFoundError:
            return list(range(shards))
        if found.st_size != self._size:
            return list(range(shards))
        # Of the very file: what was noted of another one of that name says nothing.
        return [i for i in range(shards) if self._line(i, found.st_ino).encode() not in lines]

    def there(self) -> bool:
        """Whether some of it may be here."""
        return self._rows.exists()

    def open(self) -> int:
        """A descriptor of the rows, as long as all of them are; holes take no room."""
        descriptor = os.open(self._rows, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, self._size)
        self._failure.unlink(missing_ok=True)
        self.lock.write_text(str(os.getpid()))
        return descriptor

    def lacks(self, missing: Sequence[int]) -> int:
        """The bytes that are not taken yet of what the missing shards need."""
        taken = self._rows.stat().st_blocks * 512 if self._rows.exists() else 0
        return max(0, self._wanted(missing) - taken)

    def reserve(self, missing: Sequence[int]) -> None:
        """Say what the rows will take, so that nobody else counts on it; see `entries.RESERVED`."""
        self._reserved.write_text(str(self._wanted(missing)))

    def _wanted(self, missing: Sequence[int]) -> int:
        """The bytes of the rows when the missing shards are there, beside those that are."""
        lacking = set(self.missing(len(self.unit.shards)))
        done = [index for index in range(len(self.unit.shards)) if index not in lacking]
        return self.unit.bytes_of([*done, *missing])

    def sink(self, descriptor: int, missing: Sequence[int]) -> "KeptSink":
        """Where the rows of the missing shards go."""
        huge = Collapsed(descriptor, self._size, self._spans(missing))
        return KeptSink(descriptor, self.unit.layout.width, huge)

    def _spans(self, missing: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The bytes of the missing shards, first and last; shards that touch are one span."""
        starts = list(accumulate((shard.rows for shard in self.unit.shards), initial=0))
        wanted, width = sorted(missing), self.unit.layout.width
        while wanted:
            first = last = wanted.pop(0)
            while wanted and wanted[0] == last + 1:
                last = wanted.pop(0)
            yield starts[first] * width, starts[last + 1] * width

    def finish(self, descriptor: int, index: int) -> None:
        """Note that a shard is whole, after its rows are where a power cut leaves them."""
        os.fdatasync(descriptor)
        line = self._line(index, os.fstat(descriptor).st_ino)
        with self._done.open("a") as file:
            # A line of its own, whatever a power cut left of the one before.
            file.write(f"\n{line}\n")

    def fail(self, failure: InputError) -> None:
        """Leave word for those that wait."""
        value = failure.value if isinstance(failure.value, (str, int, float)) else str(failure.value)
        try:
            write_whole(self._failure, json.dumps([failure.name, value, failure.rule, failure.remedy]))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def failure(self, since: float) -> InputError | None:
        """What a process failed with that was waited for since then, seconds since 1970."""
        try:
            if self._failure.stat().st_mtime < since:
                return None
            return InputError(*json.loads(self._failure.read_text()))
        except FileNotFoundError:
            return None

    def filler(self) -> tuple[str, float]:
        """The number of the process that fills it, and when it last wrote, seconds since 1970."""
        changed = [file.stat().st_mtime for file in (self._rows, self._done, self.lock) if file.exists()]
        return self.lock.read_text() or "unknown", max(changed, default=0.0)

    def settle(self) -> None:
        """Give the room back that was not used, all of it if no shard was finished."""
        self._reserved.unlink(missing_ok=True)
        if not self._done.exists():
            self._rows.unlink(missing_ok=True)

    def map(self) -> Rows:
        """The rows, in pages that all processes of the node share.

        Raises:
            InputError: the system refuses to map them.
        """
        with self._rows.open("rb") as file:
            try:
                # A private mapping: what a careless task writes stays in its own process.
                pages = mapped(file.fileno(), self._size)
            except OSError as error:
                rule = f"its {self._size} bytes cannot be mapped into memory ({error.strerror})"
                remedy = (
                    "raise the limit of addresses (ulimit -v, vm.overcommit_memory), or data.mode=windowed"
                )
                raise InputError("data.cache", str(self._rows), rule, remedy) from error
        rows, width = self.unit.rows, self.unit.layout.width
        return pages[: rows * width].reshape(rows, width)

    def _line(self, index: int, inode: int) -> str:
        shard = self.unit.shards[index]
        return f"{inode} {index} {shard.path} {shard.rows} {shard.sha256}"


class KeptSink:
    """Where rows go of a file that is filled: into its huge pages, and elsewhere by descriptor.

    A mapping of pages that the file system has not given yet would end the process when the disk is full.
    """

    def __init__(self, descriptor: int, width: int, huge: Collapsed) -> None:
        self._descriptor = descriptor
        self._width = width
        self._huge = huge

    def room(self, first: int, count: int) -> Rows:
        """Memory for rows; see `Sink.room`."""
        at = first * self._width
        place = self._huge.prepared(at, at + count * self._width)
        if place is None:
            return np.empty((count, self._width), np.uint8)
        return place.reshape(count, self._width)

    def put(self, first: int, rows: Rows) -> None:
        """Write rows that are not where they belong; see `Sink.put`."""
        at, data = first * self._width, memoryview(rows.data).cast("B")
        if self._huge.holds(rows):
            return
        while data:
            written = os.pwrite(self._descriptor, data, at)
            data, at = data[written:], at + written
