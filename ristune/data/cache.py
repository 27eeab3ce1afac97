"""Decoded once a node: the first process fetches, the others wait and share its pages."""

import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ristune.data.entries import ROWS, enter, evict, reserve, room, size_there
from ristune.data.kept import Kept, Unit
from ristune.data.layout import Rows
from ristune.data.locks import Hold, hold
from ristune.data.places import GB, Place
from ristune.data.scatter import Sink
from ristune.errors import InputError

# Goes up when the files of an entry change, so that what another version left is not read.
VERSION = 3
# How often long work, and waiting for another's, says how far it is, in seconds.
REPORT_S = 10
# How often it is asked whether another process is done, and after what silence it is given up, in seconds.
POLL_S, SILENT_S = 0.02, 600

# Fetches shards by number and puts their rows, and says which shard is whole.
Fill = Callable[[Sequence[int], Sink, Callable[[int], None]], None]


@dataclass(frozen=True)
class Resident:
    """Rows in memory; nobody may write to them.

    Attributes:
        rows: [rows of the unit, width], uint8; only those asked for are there.
        held: keeps the files from being evicted.
    """

    rows: Rows
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
        """Whether a place has room for what it lacks of a dataset of so many decoded bytes."""
        name = _entry(dataset_id)
        return any(size - size_there(place, name) <= room(place, name) for place in self.places)

    def attach(self, dataset_id: str, uri: str, unit: Unit, shards: int, fill: Fill) -> Resident:
        """Map the first shards of a unit into memory; fetch those that no process of this node has fetched.

        Of processes that come together one fetches and the others wait. If it is killed, the next one goes on
        where it stopped; if it fails, those that waited fail alike.

        Args:
            dataset_id: the identity of the dataset.
            uri: where it is fetched from.
            unit: what to map.
            shards: how many of its shards are needed.
            fill: fetches them.

        Raises:
            InputError: there is no room, the process that was waited for does nothing, or as `fill` raises.
        """
        name = _entry(dataset_id)
        there = [place for place in self.places if Kept(place.path / name, unit).there()]
        refused: list[Place] = []
        # Where some of it is already comes first, then the places in the order they are preferred.
        for place in dict.fromkeys([*there, *self.places]):
            held = enter(place, name, dataset_id, uri)
            kept = Kept(place.path / name, unit)
            try:
                if self._complete(place, kept, shards, fill):
                    return Resident(kept.map(), held)
            except BaseException:
                _leave(place, kept, held)
                raise
            refused.append(place)
            _leave(place, kept, held)
        raise _no_room(refused, unit, unit.bytes_of(range(shards)), name)

    def _complete(self, place: Place, kept: Kept, shards: int, fill: Fill) -> bool:
        """See that the first shards are there; false if the place has no room for them."""
        if not kept.missing(shards):
            return True
        filling = self._turn(kept, shards)
        if filling is None:
            return True
        try:
            missing = kept.missing(shards)
            return not missing or self._fill(place, kept, missing, fill)
        finally:
            filling.release()

    def _turn(self, kept: Kept, shards: int) -> Hold | None:
        """Wait to be the one that fills; None if another one has done it meanwhile."""
        began, told = time.time(), 0.0
        while True:
            filling = hold(kept.lock, exclusive=True, wait=False)
            failure = kept.failure(since=began) if kept.missing(shards) else None
            if filling is not None and failure is None and kept.missing(shards):
                return filling
            if filling is not None:
                filling.release()
            if failure is not None:
                raise failure
            if not kept.missing(shards):
                return None
            process, wrote = kept.filler()
            now = time.time()
            if now - max(wrote, began) > SILENT_S:
                rule = f"process {process} fetches {kept.unit.name} and has written nothing for {SILENT_S} s"
                remedy = f"end it (kill {process}): the next one goes on where it stopped"
                raise InputError("data.cache", str(kept.folder), rule, remedy)
            if now - told > REPORT_S:
                told = now
                self.report(f"{kept.unit.name}: waiting for process {process} of this node, which fetches it")
            # The system has no wait for a lock that ends by itself or looks at a failure meanwhile.
            time.sleep(POLL_S)

    def _fill(self, place: Place, kept: Kept, missing: Sequence[int], fill: Fill) -> bool:
        need = kept.unit.bytes_of(missing)
        began = told = time.monotonic()
        done = 0
        descriptor = kept.open()

        def finished(index: int) -> None:
            nonlocal told, done
            kept.finish(descriptor, index)
            done += kept.unit.bytes_of([index])
            if time.monotonic() - told > REPORT_S:
                told = time.monotonic()
                left = (told - began) * (need - done) / done
                far = f"{done / GB:.1f} of {need / GB:.1f} GB, about {left:.0f} s left"
                self.report(f"{kept.unit.name}: {far}")

        try:
            if not reserve(place, kept.folder, kept.lacks(missing), lambda: kept.reserve(missing)):
                return False
            self.report(f"{kept.unit.name}: decoding {need / 1e6:.0f} MB into {place.path}")
            fill(missing, kept.sink(descriptor, missing), finished)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        except InputError as failure:
            kept.fail(failure)
            raise
        finally:
            os.close(descriptor)
            kept.settle()
        seconds = time.monotonic() - began
        self.report(f"{kept.unit.name}: decoded in {seconds:.1f} s, {need / 1e6 / seconds:.0f} MB/s")
        return True


def _leave(place: Place, kept: Kept, held: Hold) -> None:
    """Let an entry go that was not filled; nothing of it stays if it is of no use to anybody."""
    held.release()
    if not list(kept.folder.glob(f"*{ROWS}")) and not list(kept.folder.glob("*.failure")):
        evict(place, kept.folder)


def _entry(dataset_id: str) -> str:
    return f"{dataset_id[:32]}-v{VERSION}"


def _no_room(refused: Sequence[Place], unit: Unit, need: int, name: str) -> InputError:
    found = "; ".join(
        f"{room(place, name) / GB:.3f} GB can be had in {place.path} (by free space and {place.setting})"
        for place in refused
    )
    rule = f"{need / GB:.3f} GB are needed for {unit.name}, {found}; what running trials use is not evicted"
    remedy = "free some space, raise the bound, give another folder as data.cache, or data.mode=windowed"
    return InputError("data.cache", str(refused[0].path), rule, remedy)
