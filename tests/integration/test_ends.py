"""How a sweep ends when it is not let to: signals and killed workers, on a real Ray."""

import os
import signal
import time
from pathlib import Path

import pytest

from ristune.sweep import results
from ristune.sweep.causes import KILLED
from tests.integration.sweeps import LONG, end, leftovers, soon_gone, start, wait_for, worker

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    ("number", "to_group"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGHUP, True)],
    ids=["ctrl-c", "sigint", "sigterm", "closed terminal"],
)
def test_an_interrupted_sweep_keeps_its_results_and_leaves_no_process(
    home: Path, number: signal.Signals, to_group: bool
) -> None:
    process = start(home, "cut", *LONG)
    journal = home / "runs" / "cut" / "journal" / "events.jsonl"
    wait_for(journal, lambda text: text.count('"reported"') > 5, process)
    sent = time.monotonic()
    os.killpg(process.pid, number) if to_group else os.kill(process.pid, number)
    sweep = end(process, home, "cut")
    assert time.monotonic() - sent < 30
    assert soon_gone(process.pid), leftovers(process.pid)
    assert sweep.status == 130
    assert f"saved in {sweep.folder}" in sweep.stderr
    assert "Traceback" not in sweep.stderr
    summary = sweep.summary
    assert summary["outcome"] == "interrupted"
    assert summary["trials"]["interrupted"] == summary["trials"]["total"] >= 1
    assert summary["best"]["objective"] > 0
    assert (sweep.folder / "best" / "weights.safetensors").is_file()
    assert sweep.events[-1]["reason"] == number.name
    assert [event["event"] for event in sweep.events].count("paused") == summary["trials"]["total"]
    assert not [event for event in sweep.events if event["event"] == "told"]
    assert f"--resume {sweep.folder}" in sweep.stdout.splitlines()[-1]
    assert results.summary(sweep.history)["best"] == summary["best"]


def test_the_trial_of_a_worker_that_is_killed_goes_on_in_another(home: Path) -> None:
    process = start(home, "killed", "--trials", "3", "training.epochs=150", "sweep.grace=150")
    wait_for(
        home / "runs" / "killed" / "journal" / "events.jsonl",
        lambda text: all(text.count(f'"trial": "{name}", "record"') > 3 for name in ("0000", "0001")),
        process,
    )
    os.kill(worker(process.pid, "ray::_Inner"), signal.SIGKILL)
    sweep = end(process, home, "killed")
    assert sweep.status == 0, sweep.stderr
    assert soon_gone(process.pid), leftovers(process.pid)
    assert sweep.summary["trials"]["complete"] == 3
    [retried] = [event for event in sweep.events if event["event"] == "retried"]
    assert retried["reason"] == KILLED
    trial = sweep.history.trials[retried["trial"]]
    assert "goes on in epoch" in (sweep.folder / "trials" / trial.id / "log.txt").read_text()
    assert [record["epoch"] for record in trial.records] == list(range(1, 151))
