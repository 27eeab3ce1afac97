"""Sweeps that are killed and go on, on a real Ray."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ristune.sweep import results
from ristune.sweep.__main__ import main
from ristune.sweep.history import State
from tests.integration.sweeps import (
    ROOT,
    Sweep,
    arguments,
    end,
    environment,
    launch,
    leftovers,
    raylet,
    soon_gone,
    start,
    wait_for,
    worker,
)

pytestmark = pytest.mark.ray
# One at a time, so that who is stopped does not hang on who reports first.
SHORT = (
    "--trials",
    "6",
    "training.epochs=40",
    "sweep.grace=5",
    "sweep.concurrency=1",
    "tracking.mode=disabled",
)


def resume(home: Path, name: str, *more: str) -> subprocess.Popen[str]:
    return launch(["ristune.sweep", "--resume", str(home / "runs" / name), *more], environment(home))


def kill(process: subprocess.Popen[str], *pids: int) -> None:
    """Kill processes of a sweep without notice; its driver ends with them, sooner or later."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=120)


def check_whole(sweep: Sweep, count: int) -> None:
    """Every trial told once, every epoch recorded once, and the rungs what the records say."""
    told = [event["trial"] for event in sweep.events if event["event"] == "told"]
    assert sorted(told) == [f"{number:04d}" for number in range(count)]
    assert sweep.summary["trials"]["total"] == count
    assert sweep.summary["trials"]["running"] == sweep.summary["trials"]["interrupted"] == 0
    rows = pq.read_table(sweep.folder / "records.parquet").to_pylist()
    assert len({(row["trial"], row["epoch"]) for row in rows}) == len(rows) == sweep.summary["epochs"]
    history = sweep.history
    for trial in history.trials.values():
        assert [record["epoch"] for record in trial.records] == list(range(1, trial.epoch + 1))
        assert not (sweep.folder / "trials" / trial.id / "resume").exists()
    for rung, objectives in history.rungs.items():
        reached = [trial for trial in history.trials.values() if trial.epoch >= rung]
        assert objectives == {trial.id: trial.records[rung - 1]["objective"] for trial in reached}


def outcome(folder: Path) -> list[tuple[Any, ...]]:
    trials = results.load(folder).trials.values()
    return [(trial.id, trial.values, trial.state, trial.epoch, trial.objective) for trial in trials]


def test_a_sweep_that_is_killed_twice_ends_as_one_that_never_was(home: Path) -> None:
    assert main(arguments(home, "whole", *SHORT)) == 0
    journal = home / "runs" / "killed" / "journal" / "events.jsonl"
    first = start(home, "killed", *SHORT)
    wait_for(journal, lambda text: text.count('"told"') >= 1 and text.count('"reported"') > 70, first)
    kill(first, first.pid)
    second = resume(home, "killed")
    wait_for(journal, lambda text: text.count('"told"') >= 3, second)
    # Without its raylet the worker that is there would go on to the end, but none can take its place.
    kill(second, raylet(second.pid), worker(second.pid, "ray::_Inner"))
    third = end(resume(home, "killed"), home, "killed")
    assert third.status == 0, third.stderr
    # Ray's helpers outlive a driver that is killed; the next one ends them, and clears up.
    assert soon_gone(first.pid), leftovers(first.pid)
    assert soon_gone(second.pid), leftovers(second.pid)
    for folder in home.glob("tmp*wandb-*"):
        # Of wandb, which Ray imports into the driver.
        folder.rmdir()
    check_whole(third, 6)
    assert outcome(home / "runs" / "killed") == outcome(home / "runs" / "whole")
    assert third.summary["best"] == results.summary(results.load(home / "runs" / "whole"))["best"]
    assert (third.folder / "best" / "weights.safetensors").is_file()


def test_an_interrupted_sweep_goes_on_and_may_be_extended(home: Path) -> None:
    journal = home / "runs" / "cut" / "journal" / "events.jsonl"
    many = ("--trials", "4", "training.epochs=150", "sweep.grace=150", "tracking.mode=disabled")
    first = start(home, "cut", *many)
    wait_for(journal, lambda text: text.count('"reported"') > 20, first)
    # A second driver is refused while the first one runs.
    status = subprocess.run(
        [sys.executable, "-m", "ristune.sweep", "--resume", str(home / "runs" / "cut")],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert status.returncode == 2
    assert f"one driver only, and process {first.pid} on" in status.stderr
    os.kill(first.pid, signal.SIGINT)
    assert end(first, home, "cut").status == 130
    second = end(resume(home, "cut", "--trials", "5", "sweep.concurrency=1"), home, "cut")
    assert second.status == 0, second.stderr
    check_whole(second, 5)
    assert {trial.state for trial in second.history.trials.values()} == {State.COMPLETE}
    assert soon_gone(first.pid)
