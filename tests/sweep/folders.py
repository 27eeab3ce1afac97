"""Folders of made-up sweeps, as a driver leaves them or is about to."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ristune.sweep.journal import FILE
from tests.sweep.events import STARTED, asked, decided, reported, started, told

ROOT = Path(__file__).parents[2]
DRIVE = """\
import sys, time
from pathlib import Path
from ristune.sweep.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def folder(directory: Path, *events: dict[str, Any], **more: Any) -> Path:
    """A sweep that has started; `more` are fields of that event."""
    (directory / "journal").mkdir(parents=True)
    write(directory, [STARTED | {"directory": str(directory), "name": directory.name} | more, *events])
    return directory


def write(directory: Path, events: Iterable[dict[str, Any]]) -> None:
    with (directory / "journal" / FILE).open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def ended(outcome: str = "finished", time: float = 160.0, reason: str = "") -> dict[str, Any]:
    return {"event": "sweep_ended", "time": time, "outcome": outcome, "reason": reason}


def some_trials() -> list[dict[str, Any]]:
    """Three trials at two rungs, two of which went on at the first, and one that runs."""
    events: list[dict[str, Any]] = []
    for number, objective in enumerate((0.5, 0.25, 0.75)):
        name = f"000{number}"
        events += [
            asked(name, **{"optimizer.lr": 0.1 * (number + 1), "task.width": 4}),
            started(name),
            reported(name, 1, objective),
            decided(name, 1, objective, "stop" if number == 2 else "continue"),
        ]
    events.append(told("0002", "stopped", reason="above the cutoff"))
    events += [reported("0000", 3, 0.5), decided("0000", 3, 0.5), told("0000", "complete")]
    return events


def drive(directory: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a sweep, as its driver does."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVE, str(directory / "journal")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def leave_checkpoint(directory: Path, trial: str) -> Path:
    """The folder of a trial's best weights."""
    best = directory / "trials" / trial / "best"
    shutil.rmtree(best, ignore_errors=True)
    best.mkdir(parents=True)
    return best
