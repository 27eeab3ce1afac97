"""The study's truth: an append-only log of events, one JSON object a line.

Every other result (tables, best.yaml, summary.json, the display) is made from these events alone.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ristune.errors import InputError
from ristune.sweep.history import History
from ristune.sweep.lock import Held, Hold, Lost, hold

if TYPE_CHECKING:
    from ristune.sweep.segments import Segments

FILE = "events.jsonl"


class Event(StrEnum):
    """What can happen. Every event carries `event` and `time` (seconds since the epoch of Unix).

    - sweep_started: name, directory, home (its URI; null on a disk), requested, epochs (of a whole trial),
      training_epochs, source, overrides, config_dirs, command, dataset_id, resources, versions
    - sweep_resumed: directory, requested, source, overrides, command, resources, versions, as they are now
    - known: source (a sweep), trial (there), values, value, feasible: it is no trial of this sweep
    - enqueued: values: a point, or a part of one, to be tried before what the sampler proposes
    - asked: trial, values, source (sampler or enqueued)
    - started: trial
    - reported: trial, record (flat; what was not finite is null)
    - decided: trial, epoch, rung, bracket, objective, cutoff, decision (continue or stop), reason
    - stopped: trial, reason
    - failed: trial, state (failed or oom), reason, traceback; what comes of it is `retried` or `told`
    - retried: trial, reason, counted (whether against the trial): it is to run again, from its checkpoint
    - paused: trial, reason: it has not ended, and runs again when the sweep is resumed
    - told: trial, state, objective, reason; and how the sampler was told: kind, value, feasible, epoch
    - warned: trial (or null), text
    - sweep_ended: outcome (finished, interrupted or broken), reason
    """

    SWEEP_STARTED = "sweep_started"
    SWEEP_RESUMED = "sweep_resumed"
    KNOWN = "known"
    ENQUEUED = "enqueued"
    ASKED = "asked"
    STARTED = "started"
    REPORTED = "reported"
    DECIDED = "decided"
    STOPPED = "stopped"
    FAILED = "failed"
    RETRIED = "retried"
    PAUSED = "paused"
    TOLD = "told"
    WARNED = "warned"
    SWEEP_ENDED = "sweep_ended"


# What may be lost in a power cut; all else is on the disk before the sweep goes on. A checkpoint is written
# after the reports before it, so that none is newer than the journal.
_UNSYNCED = (Event.STARTED, Event.STOPPED, Event.FAILED, Event.PAUSED, Event.WARNED)


class Journal:
    """Appends events to a file, and keeps what they add up to.

    Args:
        path: of the file; one that is there is continued, a line that was cut off dropped. Its folder is
            locked until the journal is closed.
        segments: the same journal in an object store, which is the truth then: it is leased until the journal
            is closed, the file becomes a copy of it, and an event is in the store before the sweep goes on.

    Attributes:
        history: what all the events say together.

    Raises:
        InputError: if another process has it open to write, or a line is damaged.
    """

    def __init__(self, path: Path, segments: "Segments | None" = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.history = History()
        self._segments, self._behind = segments, b""
        with ExitStack() as stack:
            self._holds = [_held(place, stack) for place in (path.parent, segments and segments.uri) if place]
            if segments is not None:
                path.write_bytes(segments.begin())
            events = read(path) if path.exists() else []
            if path.exists():
                _drop_cut_off_line(path)
            for number, event in enumerate(events, start=1):
                take(self.history, path, number, event)
            self._stack = stack.pop_all()
        self._file = path.open("a", encoding="utf-8")
        self._listeners: list[Callable[[Mapping[str, Any]], None]] = []

    def subscribe(self, listener: Callable[[Mapping[str, Any]], None]) -> None:
        """Have every event from now on shown to a listener, once it is written."""
        self._listeners.append(listener)

    def append(self, event: Event, **fields: Any) -> None:
        """Write one event.

        Args:
            event: its kind.
            **fields: plain values; non-finite numbers become null.

        Raises:
            OSError: if the disk refuses it: a sweep without its journal would be lost work.
        """
        self.extend([(event, fields)])

    def extend(self, events: Sequence[tuple[Event, Mapping[str, Any]]]) -> None:
        """Write several events that belong together: a process that is killed leaves all of them, or none.

        Args:
            events: kinds and fields, as `append` takes them.

        Raises:
            OSError: as `append`.
        """
        now = time.time()
        rows = [{"event": str(event), "time": now, **plain(fields)} for event, fields in events]
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        # First: what the history refuses must not reach the file.
        for row in rows:
            self.history.apply(row)
        self._file.write(lines)
        self._file.flush()
        self._behind += lines.encode() if self._segments is not None else b""
        if any(event not in _UNSYNCED for event, _ in events):
            os.fsync(self._file.fileno())
            self._catch_up()
        for row in rows:
            for listener in self._listeners:
                listener(row)

    def close(self) -> None:
        """Close the file; the history stays."""
        self._file.close()
        self._stack.close()

    def _catch_up(self) -> None:
        """Have the store take what it does not have yet, if the driver may still write there."""
        if self._segments is None or not self._behind:
            return
        try:
            for held in self._holds:
                held.check()
        except Lost as error:
            remedy = "see who drives it with `status`; if nobody does, go on with --resume"
            raise InputError("sweep", self._segments.uri, str(error), remedy) from error
        self._segments.append(self._behind)
        self._behind = b""


def _held(place: Path | str, stack: ExitStack) -> Hold:
    """A sweep's folder or place, held until the stack is closed."""
    try:
        return stack.enter_context(hold(place))
    except Held as error:
        raise InputError(
            "sweep",
            str(place.parent if isinstance(place, Path) else place),
            f"it may have one driver only, and {error} is running it",
            "wait for that one to end, or stop it",
        ) from error


def take(history: History, path: Path, line: int, event: Mapping[str, Any]) -> None:
    """Have a history take in an event of a journal.

    Args:
        history: of the events before it.
        path: of the journal, for errors.
        line: its number there.
        event: as `parse` gives it.

    Raises:
        InputError: if it does not go with the events before it.
    """
    try:
        history.apply(event)
    except (KeyError, TypeError) as error:
        rule = f"it must go with the events before it ({error!r})"
        raise InputError(str(path), f"line {line}", rule, "restore the file from a copy") from error


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a journal, first to last; a last line that was cut off is left out.

    Raises:
        InputError: if another line is damaged.
    """
    with path.open("rb") as file:
        return list(parse(path, file))


def started(path: Path) -> Mapping[str, Any]:
    """How a sweep was started, from the beginning of its journal; empty if it was not."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        starts = (event for event in parse(path, file) if event["event"] == Event.SWEEP_STARTED)
        return next(starts, {})


def parse(path: Path, lines: Iterable[bytes], first: int = 1) -> Iterator[dict[str, Any]]:
    """The events of some lines of a journal, one by one.

    Args:
        path: of the journal, for errors.
        lines: each with its newline; a last one without was cut off while it was written, and is left out.
        first: number of the first of them in the journal.

    Raises:
        InputError: if a line is damaged.
    """
    for number, line in enumerate(lines, start=first):
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
            Event(row["event"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                str(path),
                f"line {number}",
                f"every line must be an event ({error})",
                "restore the file from a copy, or take the line out",
            ) from error
        yield row


def plain(value: Any) -> Any:
    """A value as JSON has it: what is not finite becomes null."""
    if isinstance(value, Mapping):
        # Ray makes each record's names anew, and the history keeps all records.
        return {sys.intern(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, StrEnum):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _drop_cut_off_line(path: Path) -> None:
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
