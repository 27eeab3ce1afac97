"""Decoded once a node: the first process fetches, the others wait and share its pages."""

import errno
import json
import mmap
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.layout import Layout, Planes, pack
from ristune.data.locks import Hold, hold
from ristune.data.manifest import Shard
from ristune.data.places import GB, Place, enter, make_room, room
from ristune.errors import InputError

# Goes up when the files below change, so that what another version left is not read.
VERSION = 1
# How often a long fill says how far it is, in seconds.
REPORT_S = 10

# Columns of consecutive rows of a unit, [n, *shape] each; the first row is counted from the unit's first.
Write = Callable[[int, Mapping[str, NDArray[Any]]], None]
# Fetches shards by number and gives their rows to `write`, then says which shard is whole.
Fill = Callable[[Sequence[int], Write, Callable[[int], None]], None]


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


@dataclass(frozen=True)
class Resident:
    """Rows in memory; nobody may write to them.

    Attributes:
        planes: by number, [rows of the unit, width], uint8; only the rows asked for are there.
        held: keeps the files from being evicted.
    """

    planes: Planes
    held: Hold | None = None


@dataclass(frozen=True)
class NodeCache:
    """Decoded datasets of this node.

    Attributes:
        places: where they may be, the preferred one first.
        report: told of long work, in a line each.
    """

    places: tuple[Place, ...]
    report: Callable[[str], None]

    def fits(self, dataset_id: str, size: int) -> bool:
        """Whether a dataset of so many decoded bytes is here already, or there is room for it."""
        known = any((place.path / _entry(dataset_id)).is_dir() for place in self.places)
        return known or any(size <= room(place) for place in self.places)

    def attach(self, dataset_id: str, uri: str, size: int, unit: Unit, shards: int, fill: Fill) -> Resident:
        """Map the first shards of a unit into memory; fetch those that no process of this node has fetched.

        Of processes that come together one fetches and the others wait. If it is killed, the next one goes on
        where it stopped; if it fails, those that waited fail alike.

        Args:
            dataset_id: the identity of the dataset.
            uri: where it is fetched from.
            size: the decoded bytes of the whole dataset, which decide where it goes.
            unit: what to map.
            shards: how many of its shards are needed.
            fill: fetches them.

        Raises:
            InputError: there is no room, or as `fill` raises.
        """
        place, held = enter(self.places, _entry(dataset_id), dataset_id, uri, size)
        files = _Files(place.path / _entry(dataset_id), unit)
        if not files.missing(shards):
            return Resident(files.map(), held)
        began = time.time()
        filling = hold(files.lock, exclusive=True, wait=False)
        if filling is None:
            self.report(f"{unit.name}: waiting for another process of this node that fetches it")
            filling = hold(files.lock, exclusive=True)
            files.raise_failure(since=began)
        try:
            missing = files.missing(shards)
            if missing:
                self._fill(place, files, unit, missing, fill)
        finally:
            assert filling is not None
            filling.release()
        return Resident(files.map(), held)

    def _fill(self, place: Place, files: "_Files", unit: Unit, missing: Sequence[int], fill: Fill) -> None:
        rows = sum(unit.shards[index].rows for index in missing)
        need = rows * unit.layout.row_bytes
        if not make_room(place, need):
            raise _no_room(place, unit, need)
        began = told = time.monotonic()
        done = 0
        self.report(f"{unit.name}: decoding {rows} samples, {need / 1e6:.0f} MB, into {place.path}")
        descriptor = files.open()

        def finished(index: int) -> None:
            nonlocal told, done
            files.finish(descriptor, index)
            done += unit.shards[index].rows * unit.layout.row_bytes
            if time.monotonic() - told > REPORT_S:
                told = time.monotonic()
                left = (told - began) * (need - done) / done
                self.report(f"{unit.name}: {done / GB:.1f} of {need / GB:.1f} GB, about {left:.0f} s left")

        try:
            fill(missing, files.writer(descriptor), finished)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            failure = _no_room(place, unit, need)
            files.fail(failure)
            raise failure from error
        except InputError as failure:
            files.fail(failure)
            raise
        finally:
            os.close(descriptor)
            files.forget_if_empty()
        seconds = time.monotonic() - began
        self.report(f"{unit.name}: decoded in {seconds:.1f} s, {need / 1e6 / seconds:.0f} MB/s")


class _Files:
    """The files of one unit: its rows, what is there of them, who is filling it, and why that failed."""

    def __init__(self, folder: Path, unit: Unit) -> None:
        self._unit = unit
        self._extents = unit.layout.extents(unit.rows)
        self._rows = folder / f"{unit.name}.rows"
        self._done = folder / f"{unit.name}.done"
        self._failure = folder / f"{unit.name}.failure"
        self.lock = folder / f"{unit.name}.filling"

    def missing(self, shards: int) -> list[int]:
        """The first shards that are not here yet."""
        try:
            lines = self._done.read_text().splitlines()
            whole = self._rows.stat().st_size == self._extents[-1]
        except FileNotFoundError:
            return list(range(shards))
        wanted = (_line(index, self._unit.shards[index]) for index in range(shards))
        return [index for index, line in enumerate(wanted) if not whole or line not in lines]

    def open(self) -> int:
        """A descriptor of the rows, as long as all of them are; holes take no room."""
        if self.missing(len(self._unit.shards)) == list(range(len(self._unit.shards))):
            self._done.unlink(missing_ok=True)
        descriptor = os.open(self._rows, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, self._extents[-1])
        return descriptor

    def writer(self, descriptor: int) -> Write:
        """A function that puts rows in their places."""

        def write(first: int, arrays: Mapping[str, NDArray[Any]]) -> None:
            for plane, start in zip(self._unit.layout.planes, self._extents, strict=False):
                # By descriptor, not through the mapping: a full disk is then an error and no signal.
                data, at = memoryview(pack(plane, arrays).data).cast("B"), start + first * plane.width
                while data:
                    written = os.pwrite(descriptor, data, at)
                    data, at = data[written:], at + written

        return write

    def finish(self, descriptor: int, index: int) -> None:
        """Note that a shard is whole, after its rows are where a power cut leaves them."""
        os.fdatasync(descriptor)
        with self._done.open("a") as file:
            file.write(_line(index, self._unit.shards[index]) + "\n")

    def fail(self, failure: InputError) -> None:
        """Leave word for those that wait."""
        value = failure.value if isinstance(failure.value, (str, int, float)) else str(failure.value)
        fields = [failure.name, value, failure.rule, failure.remedy]
        try:
            self._failure.write_text(json.dumps(fields))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def raise_failure(self, since: float) -> None:
        """Raise what the process failed with that was waited for."""
        if self._failure.is_file() and self._failure.stat().st_mtime >= since:
            fields = json.loads(self._failure.read_text())
            raise InputError(*fields)

    def forget_if_empty(self) -> None:
        """Give the room back if no shard was finished."""
        if not self._done.exists():
            self._rows.unlink()

    def map(self) -> Planes:
        """The planes, in pages that all processes of the node share."""
        with self._rows.open("rb") as file:
            # A private mapping: what a careless task writes stays in its own process.
            pages = mmap.mmap(
                file.fileno(), self._extents[-1], mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
            )
        return planes(np.frombuffer(pages, np.uint8), self._unit.layout, self._unit.rows)


def planes(buffer: NDArray[np.uint8], layout: Layout, rows: int) -> Planes:
    """The planes of so many rows in a buffer of `layout.extents(rows)[-1]` bytes."""
    return [
        buffer[start : start + rows * plane.width].reshape(rows, plane.width)
        for plane, start in zip(layout.planes, layout.extents(rows), strict=False)
    ]


def _entry(dataset_id: str) -> str:
    return f"{dataset_id[:32]}-v{VERSION}"


def _line(index: int, shard: Shard) -> str:
    return f"{index} {shard.path} {shard.rows} {shard.sha256}"


def _no_room(place: Place, unit: Unit, need: int) -> InputError:
    rule = (
        f"{need / GB:.3f} GB are needed there for {unit.name}, {room(place) / GB:.3f} GB can be had "
        f"(bounded by free space and {place.setting}; what running trials use is not evicted)"
    )
    remedy = (
        f"free some space, raise {place.setting}, give another folder as data.cache, or data.mode=windowed"
    )
    return InputError("data.cache", str(place.path), rule, remedy)
