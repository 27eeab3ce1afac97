"""Sweeps of the toy task as a shell starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ristune.sweep import results
from ristune.sweep.history import History
from ristune.sweep.journal import read

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "configs"
_launched: list[subprocess.Popen[str]] = []


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


def launch(command: list[str], variables: dict[str, str], folder: Path = ROOT) -> subprocess.Popen[str]:
    """Start a module of Python as a shell does: in a session, and a process group, of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _launched.append(process)
    return process


def start(home: Path, name: str, *more: str) -> subprocess.Popen[str]:
    return launch(["ristune.sweep", *arguments(home, name, *more)], environment(home))


def kill_what_runs() -> None:
    """Kill what was launched and has not been waited for, with all processes of its session."""
    while _launched:
        process = _launched.pop()
        if process.returncode is None:
            for pid in processes(process.pid):
                # Killing one may have ended another.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate(timeout=60)


def end(process: subprocess.Popen[str], home: Path, name: str) -> Sweep:
    stdout, stderr = process.communicate(timeout=200)
    return Sweep(home / "runs" / name, process.returncode, stdout, stderr)


def processes(session: int) -> dict[int, str]:
    """Command lines of processes of a session that have not ended; the dead may wait to be buried."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == session and state != "Z":
            found[int(entry.name)] = command
    return found


def leftovers(session: int) -> list[str]:
    """Command lines of what is left of a session."""
    return list(processes(session).values())


def titled(session: int, title: str) -> list[int]:
    """Processes of a session that Ray has given a title."""
    return [pid for pid, command in processes(session).items() if command.startswith(title)]


def raylet(session: int) -> int:
    """Ray's own process of a session that starts and watches the workers."""
    [pid] = [pid for pid, command in processes(session).items() if "/raylet/raylet " in command]
    return pid


def worker(session: int, title: str) -> int:
    """A process that Ray has given a title; waits for it, as titles are written anew with every call."""
    deadline = time.monotonic() + 30
    while not (found := titled(session, title)):
        assert time.monotonic() < deadline, f"no {title} among {leftovers(session)}"
        time.sleep(0.01)
    return found[0]


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
