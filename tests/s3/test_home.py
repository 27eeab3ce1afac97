"""A sweep whose home is a bucket: its driver may be lost with all that lies on its disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.sweep.whole import faults
from ristune.storage.access import Storage, open_storage
from ristune.sweep.history import State
from ristune.sweep.home import Home
from ristune.sweep.standing import Phase, standing
from ristune.training import checkpoint
from tests.integration.sweeps import CONFIGS, ROOT, environment, processes

pytestmark = [pytest.mark.s3, pytest.mark.ray]

TRIALS = 6


@pytest.fixture
def home() -> Iterator[Path]:
    """Short enough for Ray's sockets to lie below it."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        yield Path(folder)


def start(home: Path, machine: str, *arguments: str) -> "subprocess.Popen[str]":
    """The command on a machine of its own, as far as disks go."""
    folder = home / machine
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "ristune.sweep", *arguments],
        cwd=folder,
        env={**environment(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def waited(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the sweep did not get going"
        time.sleep(0.2)


def kill(process: "subprocess.Popen[str]", disk: Path) -> None:
    """A machine is gone: its processes, and what lay on its disk."""
    for pid in processes(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    shutil.rmtree(disk)


def states(store: Storage) -> list[str]:
    return [name for trial in store.list("trials") for name in store.list(f"trials/{trial}/resume")]


def test_a_sweep_outlives_its_machine_in_the_bucket(server, bucket, home):
    output = server.uri(bucket, "runs", deadline=20)
    uri = server.uri(bucket, "runs/far", deadline=20)
    store = open_storage(uri)
    given = [
        *("--name", "far", "--trials", str(TRIALS), "task=toy", "space=toy", "--config-dir", str(CONFIGS)),
        *(f"data.uri={home / 'data'}", f"output={output}", "training.device=cpu", "training.epochs=6"),
        *("simulator.train=1024", "simulator.val=64", "simulator.test=64", "sweep.concurrency=2"),
        *("tracking.mode=offline", "sweep.grace=6"),
    ]
    first = start(home, "first", *given)
    waited(lambda: len(states(store)) >= 2 and standing(uri).history.told >= 1, first)
    # While it runs: seen from elsewhere, and not to be driven by a second one.
    seen = standing(uri)
    assert seen.phase is Phase.RUNNING and str(first.pid) in str(seen.driver)
    before = {name: trial.epoch for name, trial in seen.history.trials.items() if trial.state.ended}
    kill(first, home / "first")
    second = start(home, "second", "--resume", uri)
    stdout, stderr = second.communicate(timeout=170)
    assert second.returncode == 0, stderr
    # The copy that the second driver has made is the whole sweep, as the journal tells it.
    folder = home / "second" / "runs" / "far"
    assert faults(folder, TRIALS) == []
    history = standing(uri).history
    assert [trial.state for trial in history.trials.values()] == [State.COMPLETE] * TRIALS
    assert all(history.trials[name].epoch == epoch for name, epoch in before.items())
    assert f"objective {history.best.objective:.4g}"[:12] in stdout
    # All that it leaves is in the bucket, and no state to resume from.
    summary = json.loads(store.read("summary.json"))
    assert summary["trials"]["complete"] == TRIALS and summary["outcome"] == "finished"
    assert {"best", "best.yaml", "records.parquet", "trials.parquet", "config.yaml"} <= set(store.list(""))
    best = checkpoint.load(folder / "best")
    assert best.state["epoch"] == history.best.best_epoch
    assert store.read(f"best/{checkpoint.WEIGHTS}") == (folder / "best" / checkpoint.WEIGHTS).read_bytes()
    assert states(store) == []
    assert store.list(f"trials/{history.best.id}/wandb") != ()
    assert Home(uri).best_of(history.best.id, history.best.best_epoch) is not None
    # Neither machine keeps anything beside that copy, and no secret has left it.
    assert [path for path in (home / "second").rglob("ristune-*")] == []
    secret = server.keys.secret.encode()
    assert not any(secret in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    # More trials, on a third machine; what has ended is not run again.
    third = start(home, "third", "--resume", uri, "--trials", str(TRIALS + 1))
    _, stderr = third.communicate(timeout=120)
    assert third.returncode == 0, stderr
    again = standing(uri).history
    assert len(again.trials) == TRIALS + 1 and again.told == TRIALS + 1
