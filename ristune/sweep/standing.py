"""How a sweep stands, read from its journal while another process writes it; its lock is never taken."""

import shlex
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ristune.sweep import results
from ristune.sweep.finding import find, is_remote
from ristune.sweep.history import History, State
from ristune.sweep.journal import FILE, parse, take
from ristune.sweep.lock import LOCK, Holder, holder
from ristune.sweep.progress import eta

if TYPE_CHECKING:
    from ristune.sweep.home import Home
    from ristune.sweep.replica import Replica


class Phase(StrEnum):
    """Where a sweep stands."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    BROKEN = "broken"
    # It never said that it ended, and nobody runs it.
    KILLED = "killed"

    @property
    def alive(self) -> bool:
        """Whether more will come of it by itself."""
        return self in (Phase.STARTING, Phase.RUNNING)


class Standing:
    """A sweep as its journal tells it, up to the last whole line.

    Args:
        directory: the sweep's folder.
        replica: what keeps that folder up to date, for a sweep in an object store.

    Attributes:
        directory: the same.
        history: what the events read so far say together.
        last: time of the last of them, Unix seconds; 0 before there is one.
        phase: where it stands.
        driver: who holds its lock or held it last; None where nobody has.

    Raises:
        InputError: if the journal is damaged.
    """

    def __init__(self, directory: Path, replica: "Replica | None" = None) -> None:
        self.directory = directory
        self._replica = replica
        self.history = History()
        self.last = 0.0
        self._path = directory / "journal" / FILE
        self._read, self._lines = 0, 0
        # Events are not kept: those of 10 000 trials would fill a gigabyte.
        for _ in self._take():
            pass

    def news(self) -> list[dict[str, Any]]:
        """Take in the events that were written since the last call, and return them.

        Raises:
            InputError: if a line is damaged, or does not go with those before it.
        """
        return list(self._take())

    @property
    def now(self) -> float | None:
        """None while it runs; else when it stopped running, Unix seconds."""
        return None if self.phase.alive else self.last

    @property
    def name(self) -> str:
        """Of the sweep."""
        folder = self.directory.resolve().name if self._replica is None else self._replica.home.name
        return str(self.history.started.get("name") or folder)

    @property
    def home(self) -> "Home | None":
        """Where it lies, if that is an object store and it was asked for there."""
        return None if self._replica is None else self._replica.home

    @property
    def place(self) -> str:
        """Where it lies, as the user is told."""
        return str(self.directory) if self._replica is None else self._replica.home.uri

    def _take(self) -> Iterator[dict[str, Any]]:
        # First: a driver that ends meanwhile has written its last event before it lets go.
        self.driver: Holder | None = (
            holder(self._path.parent / LOCK) if self._replica is None else self._replica.driver()
        )
        if self._replica is not None:
            self._replica.refresh()
        with self._path.open("rb") as file:
            file.seek(self._read)
            for event in parse(self._path, self._counted(file), self._lines + 1):
                take(self.history, self._path, self._lines, event)
                self.last = max(self.last, event["time"])
                yield event
        self.phase = self._phase()
        if not self.phase.alive:
            self.history.rest(self.last)

    def _counted(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The lines, whole ones of which are not read again."""
        for line in lines:
            if line.endswith(b"\n"):
                self._read += len(line)
                self._lines += 1
            yield line

    def _phase(self) -> Phase:
        if self.history.ended:
            return Phase(self.history.ended["outcome"])
        # Of a driver on another machine only its lock's text can be seen from here.
        if self.driver is None or self.driver.alive is False:
            return Phase.KILLED
        return Phase.RUNNING if self.history.started else Phase.STARTING


def standing(text: str | None) -> Standing:
    """The sweep that a word of the command line means.

    Args:
        text: a folder, the name of one in `runs/`, or the URI of one in an object store.

    Raises:
        InputError: if there is no such sweep, or its journal is damaged.
    """
    if text is None or not is_remote(text):
        return Standing(find(text))
    # Whoever reads a disk does not wait for what reads stores.
    from ristune.sweep.home import Home
    from ristune.sweep.replica import Replica

    replica = Replica(Home(text))
    return Standing(replica.directory, replica)


def facts(sweep: Standing, now: float) -> dict[str, Any]:
    """A sweep in numbers: its summary as of now, and how it stands.

    Args:
        sweep: one that has started.
        now: Unix seconds.

    Returns:
        What `results.summary` has, and `state`, `driver`, `elapsed`, `eta` (null if unknown), `last_event`
        (Unix seconds), `trials_per_hour`, `epochs_per_hour`, `samples_per_second` (of the trials that run),
        `rungs`, `running` (trials) and `resume` (the command to go on with; null while it runs).
    """
    history = sweep.history
    now = now if sweep.now is None else sweep.now
    elapsed = history.elapsed(now)
    summary = results.summary(history)
    running = [trial for trial in history.trials.values() if trial.state is State.RUNNING]
    speeds = {t.id: t.records[-1]["samples_per_second"] if t.records else None for t in running}
    ended = history.told
    held = sum(trial.held_until(now) for trial in history.trials.values())
    return {
        **summary,
        "gpu_hours": held * history.started["resources"]["gpu"] / 3600,
        "state": str(sweep.phase),
        "driver": None if sweep.driver is None else str(sweep.driver),
        "elapsed": elapsed,
        "eta": eta(history, now) if sweep.phase.alive else None,
        "last_event": sweep.last,
        "ended": ended,
        "trials_per_hour": 3600 * ended / elapsed if elapsed else None,
        "epochs_per_hour": 3600 * summary["epochs"] / elapsed if elapsed else None,
        "samples_per_second": sum(speed or 0.0 for speed in speeds.values()),
        "rungs": rungs(history),
        "running": [
            {"trial": t.id, "epoch": t.epoch, "objective": t.objective, "samples_per_second": speeds[t.id]}
            for t in running
        ],
        "resume": None if sweep.phase.alive else resume_command(sweep),
    }


def rungs(history: History) -> list[dict[str, int]]:
    """For each rung, its epoch, how many trials were there and how many of them went on."""
    highest = {trial: rung for rung in sorted(history.rungs) for trial in history.rungs[rung]}
    stopped = [highest[name] for name in highest if history.trials[name].stopping]
    return [
        {"epoch": rung, "reached": len(there), "went_on": len(there) - stopped.count(rung)}
        for rung, there in sorted(history.rungs.items())
    ]


def resume_command(sweep: Standing) -> str:
    """The command that goes on with a sweep, with as many trials again where all have ended."""
    history = sweep.history
    if sweep.history.scripted:
        again: str = sweep.history.started["command"]
        return again
    command = f"python -m ristune.sweep --resume {shlex.quote(sweep.place)}"
    requested = history.started["requested"]
    all_ended = history.told == requested
    return f"{command} --trials {2 * requested}" if sweep.phase is Phase.FINISHED and all_ended else command
