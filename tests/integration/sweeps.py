"""Sweeps of the toy task as a shell starts them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ristune.sweep import results
from ristune.sweep.history import History
from ristune.sweep.journal import read

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "configs"


@dataclass(frozen=True)
class Sweep:
    """A sweep that has run."""

    folder: Path
    status: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    @property
    def events(self) -> list[dict[str, Any]]:
        return read(self.folder / "journal" / "events.jsonl")

    @property
    def history(self) -> History:
        return results.load(self.folder)


def arguments(home: Path, name: str, *more: str) -> list[str]:
    return [
        *("--name", name, "task=toy", "space=toy", "--config-dir", str(CONFIGS)),
        *(f"data.uri={home / 'data'}", f"output={home / 'runs'}", "training.device=cpu"),
        *("simulator.train=256", "simulator.val=64", "simulator.test=64"),
        *more,
    ]


def environment(home: Path) -> dict[str, str]:
    """As a user has it who never used Ray: a home of its own, no token, no address."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_", "WANDB_"))
    }
    return {**clean, "HOME": str(home), "TMPDIR": str(home)}


def start(home: Path, name: str, *more: str) -> subprocess.Popen[str]:
    """Start a sweep as a shell does: in a session, and a process group, of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ristune.sweep", *arguments(home, name, *more)],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], home: Path, name: str) -> Sweep:
    stdout, stderr = process.communicate(timeout=200)
    return Sweep(home / "runs" / name, process.returncode, stdout, stderr)


def leftovers(session: int) -> list[str]:
    """Command lines of processes of a session that have not ended; the dead may wait to be buried."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == session and state != "Z":
            found.append(command)
    return found


def soon_gone(session: int) -> bool:
    """Whether a session has no process left, within a moment: exits take effect one after the other."""
    deadline = time.monotonic() + 5
    while leftovers(session) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not leftovers(session)


def wait_for(path: Path, enough: Callable[[str], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not (path.exists() and enough(path.read_text())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the sweep did not get going"
        time.sleep(0.05)


LONG = ("--trials", "30", "training.epochs=100000", "sweep.grace=100000", "tracking.mode=offline")
