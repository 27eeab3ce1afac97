"""Whole sweeps on a real Ray, with the toy task."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import pytest
import yaml

from ristune.config import compose
from ristune.sweep import results
from ristune.sweep.__main__ import main
from ristune.sweep.history import History, State
from ristune.sweep.journal import read
from ristune.trial import prepare

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "configs"
SPACE = """
optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}
task.explode: {choices: [false, true]}
task.fail: {choices: [false, true]}
"""


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


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep in which trials complete, are stopped, diverge and fail."""
    home = tmp_path_factory.mktemp("mixed")
    (home / "mine" / "space").mkdir(parents=True)
    (home / "mine" / "space" / "mixed.yaml").write_text(SPACE)
    more = ("--config-dir", str(home / "mine"), "space=mixed", "--trials", "14", "training.epochs=9")
    # One at a time, so that who is stopped does not hang on who reports first.
    fixed = ("sweep.sampler=random", "sweep.seed=1", "sweep.concurrency=1")
    process = start(home, "mixed", *more, *fixed, "tracking.mode=offline")
    sweep = end(process, home, "mixed")
    assert soon_gone(process.pid), leftovers(process.pid)
    assert not (home / ".ray").exists(), "a token was left in the user's home"
    return sweep


def test_a_sweep_ends_with_every_kind_of_trial(mixed: Sweep) -> None:
    assert mixed.status == 0, mixed.stderr
    trials = mixed.summary["trials"]
    assert trials["total"] == 14
    assert sum(trials.values()) == 28
    for state in ("complete", "stopped", "diverged", "failed"):
        assert trials[state] >= 1, trials
    assert trials["running"] == 0
    assert mixed.summary["outcome"] == "finished"
    assert "failed: RuntimeError: planted failure" in mixed.summary["failures"]


def test_the_last_line_is_the_command_to_go_on_with(mixed: Sweep) -> None:
    expected = f"python -m ristune.train --from {mixed.folder / 'best.yaml'} training.epochs=36"
    assert mixed.stdout.splitlines()[-1] == expected


def test_standard_error_is_clean(mixed: Sweep) -> None:
    assert mixed.stderr == ""


def test_a_diverging_trial_never_wins_and_never_enters_a_rung(mixed: Sweep) -> None:
    diverged = {t.id for t in mixed.history.trials.values() if t.state is State.DIVERGED}
    assert diverged == {
        t.id for t in mixed.history.trials.values() if t.values["task.explode"] and not t.values["task.fail"]
    }
    assert mixed.summary["best"]["trial"] not in diverged
    assert "its validation: mse " in mixed.stdout
    decided = [event for event in mixed.events if event["event"] == "decided"]
    assert not [event for event in decided if event["trial"] in diverged and event["rung"]]
    assert all(mixed.history.trials[name].epoch == 1 for name in diverged)
    # Every cutoff is the percentile of what sound trials reported there before, and of nothing else.
    there: dict[int, list[float]] = {}
    for event in (event for event in decided if event["rung"]):
        before = there.setdefault(event["rung"], [])
        expected = pytest.approx(np.percentile(before, 100 / 3)) if before else None
        assert event["cutoff"] == expected
        before.append(event["objective"])


def test_the_stopped_trials_say_which_cutoff_stopped_them(mixed: Sweep) -> None:
    stopped = [t for t in mixed.history.trials.values() if t.state is State.STOPPED]
    for trial in stopped:
        assert trial.epoch < 9
        assert "is above the cutoff" in trial.reason
        decision = [e for e in mixed.events if e["event"] == "decided" and e["trial"] == trial.id][-1]
        assert decision["objective"] > decision["cutoff"]


def test_optuna_was_told_each_trial_once_with_its_state(mixed: Sweep) -> None:
    backend = optuna.storages.journal.JournalFileBackend(str(mixed.folder / "journal" / "optuna.log"))
    study = optuna.load_study(study_name="mixed", storage=optuna.storages.JournalStorage(backend))
    told = Counter(event["trial"] for event in mixed.events if event["event"] == "told")
    assert set(told.values()) == {1}
    assert len(told) == len(study.trials) == 14
    for number, trial in enumerate(study.trials):
        ours = mixed.history.trials[f"{number:04d}"]
        assert trial.params == ours.values
        if ours.state is State.FAILED:
            assert trial.state is optuna.trial.TrialState.FAIL
        else:
            assert trial.state is optuna.trial.TrialState.COMPLETE
            assert trial.constraints == {"finite": float(ours.state is State.DIVERGED)}
            assert trial.value == (1e6 if ours.objective is None else ours.objective)


def test_best_yaml_reproduces_the_best_trial_to_the_last_bit(mixed: Sweep) -> None:
    content = yaml.safe_load((mixed.folder / "best.yaml").read_text())
    config = compose(content["overrides"], content["config_dirs"])
    *_, last = prepare(config).run()
    assert last.objective == mixed.summary["best"]["objective"]


def test_the_best_checkpoint_is_that_of_the_best_trial(mixed: Sweep) -> None:
    state = json.loads((mixed.folder / "best" / "state.json").read_text())
    best = mixed.summary["best"]
    assert (state["objective"], state["epoch"]) == (best["objective"], best["epoch"])


def test_the_tables_hold_every_trial_and_every_record(mixed: Sweep) -> None:
    trials = pq.read_table(mixed.folder / "trials.parquet").to_pylist()
    assert len(trials) == 14
    assert Counter(row["state"] for row in trials) == Counter(
        {state: n for state, n in mixed.summary["trials"].items() if n and state != "total"}
    )
    records = pq.read_table(mixed.folder / "records.parquet")
    assert records.num_rows == mixed.summary["epochs"]
    assert {"trial", "epoch", "objective", "val/mse", "train/loss", "grad_norm"} <= set(records.column_names)


def test_every_trial_that_was_built_has_an_offline_wandb_run(mixed: Sweep) -> None:
    for trial in mixed.history.trials.values():
        assert len(list((mixed.folder / "trials" / trial.id / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_the_log_can_be_grepped(mixed: Sweep) -> None:
    lines = (mixed.folder / "sweep.log").read_text().splitlines()
    for trial in mixed.history.trials.values():
        assert len([line for line in lines if f" trial={trial.id} started" in line]) == 1
        assert len([line for line in lines if f" trial={trial.id} {trial.state} " in line]) == 1
    assert "status finished=14/14" in lines[-1]


def test_the_same_seed_one_at_a_time_gives_the_same_trials(tmp_path: Path) -> None:
    def run(name: str) -> list[tuple[Any, ...]]:
        more = ("--trials", "7", "training.epochs=3", "sweep.concurrency=1", "sweep.startup_trials=4")
        assert main(arguments(tmp_path, name, *more, "tracking.mode=disabled")) == 0
        trials = results.load(tmp_path / "runs" / name).trials.values()
        return [(trial.id, trial.values, trial.objective, trial.state) for trial in trials]

    # Twice in one process, which also shows that a sweep leaves nothing behind in it.
    assert run("first") == run("second")


def test_a_sweep_in_which_all_fail_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "groups" / "space").mkdir(parents=True)
    (tmp_path / "groups" / "space" / "fail.yaml").write_text("task.fail: {choices: [true]}\n")
    more = ("--trials", "3", "space=fail", "--config-dir", str(tmp_path / "groups"), "tracking.mode=disabled")
    assert main(arguments(tmp_path, "failing", *more)) == 1
    captured = capsys.readouterr()
    assert "3 x failed: RuntimeError: planted failure" in captured.err
    assert "ristune.train" not in captured.out
    summary = json.loads((tmp_path / "runs" / "failing" / "summary.json").read_text())
    assert (summary["best"], summary["trials"]["failed"]) == (None, 3)


def wait_for(path: Path, enough: Callable[[str], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not (path.exists() and enough(path.read_text())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the sweep did not get going"
        time.sleep(0.05)


LONG = ("--trials", "30", "training.epochs=100000", "sweep.grace=100000", "tracking.mode=offline")


@pytest.fixture
def home() -> Iterator[Path]:
    # Ray's sockets lie below it, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        yield Path(folder)
        left = [
            path.name for pattern in ("ristune-*", "wandb-*", "tmp*") for path in Path(folder).glob(pattern)
        ]
        assert left == [], "temporary files were left behind"


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
    told = [event for event in sweep.events if event["event"] == "told"]
    assert [event["state"] for event in told] == ["interrupted"] * summary["trials"]["total"]
    assert results.summary(sweep.history)["best"] == summary["best"]


def test_a_worker_that_is_killed_costs_its_trial_and_no_more(home: Path) -> None:
    process = start(home, "killed", "--trials", "3", "training.epochs=150", "sweep.grace=150")
    wait_for(
        home / "runs" / "killed" / "journal" / "events.jsonl",
        lambda text: text.count('"reported"') > 3,
        process,
    )
    os.kill(_a_worker(process.pid), signal.SIGKILL)
    sweep = end(process, home, "killed")
    assert sweep.status == 0, sweep.stderr
    assert soon_gone(process.pid), leftovers(process.pid)
    assert sweep.summary["trials"]["failed"] == 1
    assert sweep.summary["trials"]["complete"] == 2
    assert sweep.summary["failures"] == {"failed: The actor died unexpectedly before finishing this task.": 1}


def _a_worker(session: int) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::_Inner"):
            if os.getsid(int(entry.name)) == session:
                return int(entry.name)
    raise AssertionError("no worker is training")
