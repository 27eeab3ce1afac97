"""One sweep and the drivers that run it, one after the other, as a shell starts them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.sweep.whole import JOURNAL
from tests.integration.sweeps import ROOT, arguments, environment, leftovers, processes, soon_gone

# Seconds between two looks, and for which nothing may happen.
PERIOD, PATIENCE = 0.02, 240.0
# Titles of Ray's own helpers; all others are workers that run something.
HELPERS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


class Driver:
    """The drivers of one sweep.

    Args:
        home: a folder for everything; its path is short.
        name: of the sweep.
        trials: of the sweep.
        settings: overrides.

    Attributes:
        folder: of the sweep.
        started: how many drivers were.
        anew: how many were killed before their sweep was in its journal.
        since: when the last one was started, by the monotonic clock.
        hurt: whether it, or its raylet, was killed.
        running: whether it has started a trial.
    """

    def __init__(self, home: Path, name: str, trials: int, settings: Sequence[str]) -> None:
        self.folder = home / "runs" / name
        self.trials = trials
        self.started = self.anew = 0
        self.since = 0.0
        self.hurt = self.running = False
        self._home = home
        self._name = name
        self._settings = ("--trials", str(trials), f"data.cache={home / 'cache'}", *settings)
        self._sessions: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._counts: Counter[str] = Counter()
        self._known = 0

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The last driver."""
        assert self._process is not None
        return self._process

    @property
    def ended(self) -> bool:
        """Whether the last driver has ended."""
        return self.process.poll() is not None

    @property
    def status(self) -> int | None:
        """Exit status of the last driver."""
        return self.process.poll()

    @property
    def finished(self) -> bool:
        """Whether the sweep has ended well."""
        return self.status == 0

    def simulate(self) -> None:
        """Write the dataset, so that the first driver does not."""
        _, _, *overrides = arguments(self._home, self._name, *self._settings[2:])
        command = [sys.executable, "-m", "ristune.simulate", "--out", str(self._home / "data"), *overrides]
        subprocess.run(command, cwd=ROOT, env=environment(self._home), check=True, capture_output=True)

    def start(self) -> None:
        """Start the sweep."""
        self._launch(arguments(self._home, self._name, *self._settings))

    def go_on(self) -> None:
        """Start the next driver: it goes on with the sweep, or begins it if no journal knows of it yet."""
        if self.count("sweep_started"):
            self._launch(["--resume", str(self.folder)])
            return
        # As the command says of such a folder.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.anew += 1
        self._read = 0
        self._counts.clear()
        self.start()

    def count(self, event: str) -> int:
        """How many events of a kind the journal has."""
        self._follow()
        return self._counts[event]

    def begun(self) -> bool:
        """Wait until the last driver is in the journal; whether it is."""
        return self.wait(lambda: self._drivers() > self._known)

    def wait(self, moment: Callable[[], bool]) -> bool:
        """Wait for a moment; whether it came before the driver ended.

        Raises:
            TimeoutError: if nothing has happened for long.
        """
        deadline, read = time.monotonic() + PATIENCE, self._read
        while not moment():
            if self.ended:
                return False
            self._follow()
            if self._read != read:
                deadline, read = time.monotonic() + PATIENCE, self._read
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"nothing has happened for {PATIENCE:.0f} s, with {leftovers(self.process.pid)}"
                )
            # The driver is another process; its journal is all that it tells.
            time.sleep(PERIOD)
        return True

    def pause(self, seconds: float) -> None:
        """Wait so long, or until the driver has ended."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= until)

    def pids(self, target: str) -> list[int]:
        """Processes of the last driver's sweep that are a driver, workers of trials, or a raylet."""
        session = self.process.pid
        if target == "driver":
            return [session]
        if target == "worker":
            return [
                pid
                for pid, command in processes(session).items()
                if command.startswith("ray::") and not command.startswith(HELPERS)
            ]
        return [pid for pid, command in processes(session).items() if "/raylet/raylet " in command]

    def kill(self, pid: int, target: str) -> bool:
        """Kill a process; whether it was there."""
        if self.ended:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.hurt = self.hurt or target != "worker"
        if target == "driver":
            self.process.wait()
        return True

    def said(self) -> str:
        """The end of what the last driver has printed."""
        return (self._home / "said.txt").read_text()[-2000:]

    def second(self) -> str | None:
        """Try to run the sweep with a second driver: why that is wrong, or None if it was refused."""
        second = subprocess.Popen(
            [sys.executable, "-m", "ristune.sweep", "--resume", str(self.folder)],
            cwd=ROOT,
            env=environment(self._home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._sessions.append(second.pid)
        try:
            _, said = second.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return "a second driver was not refused, and ran"
        if second.returncode == 2 and f"one driver only, and process {self.process.pid} on" in said:
            return None
        return f"a second driver was not refused: {second.returncode}, {said[-500:]}"

    def left_over(self) -> list[str]:
        """Processes and temporary folders that are left of all drivers, a moment after the last has ended."""
        commands = [
            name for session in self._sessions if not soon_gone(session) for name in leftovers(session)
        ]
        return [*commands, *(str(folder) for folder in self._home.glob("ristune-*"))]

    def end_all(self) -> None:
        """Kill what is left of all drivers."""
        for session in self._sessions:
            for pid in processes(session):
                # Killing one may have ended another.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def _launch(self, options: Sequence[str]) -> None:
        self._follow()
        self._known = self._drivers()
        self.hurt = self.running = False
        with (self._home / "said.txt").open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ristune.sweep", *options],
                cwd=ROOT,
                env=environment(self._home),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.append(self._process.pid)
        self.since = time.monotonic()
        self.started += 1

    def _drivers(self) -> int:
        return self.count("sweep_started") + self.count("sweep_resumed")

    def _follow(self) -> None:
        """Take in what the journal has more than at the last look."""
        try:
            with (self.folder / JOURNAL).open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            kind = json.loads(line)["event"]
            self._counts[kind] += 1
            # Of the last driver, as none before it can write any more.
            self.running = kind == "started" or (self.running and not kind.startswith("sweep_"))
