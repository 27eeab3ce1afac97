"""Whole sweeps on a real Ray, with the toy task."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.trial import TrialState

from ristune.config import compose
from ristune.sweep import results
from ristune.sweep.__main__ import main
from ristune.sweep.history import State
from ristune.sweep.proposing import Proposer
from ristune.sweep.space import Choices, Parameter, Range, Space
from ristune.trial import prepare
from tests.integration.sweeps import (
    Sweep,
    arguments,
    end,
    leftovers,
    soon_gone,
    start,
)
from tests.sweep.bench import Everything
from tests.wandb_file import records

pytestmark = pytest.mark.ray

SPACE = """
optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}
task.explode: {choices: [false, true]}
task.fail: {choices: [false, true]}
"""
# Beside what fails a value with many choices: one point is tried once.
FAILING = (
    "space={task.fail: {choices: [true]}, task.scale: {low: 0.5, high: 2.0}}",
    "tracking.mode=disabled",
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep in which trials complete, are stopped, diverge and fail."""
    home = tmp_path_factory.mktemp("mixed")
    (home / "mine" / "space").mkdir(parents=True)
    (home / "mine" / "space" / "mixed.yaml").write_text(SPACE)
    more = ("--config-dir", str(home / "mine"), "space=mixed", "--trials", "14", "training.epochs=9")
    # One at a time, so that who is stopped does not hang on who reports first.
    fixed = (
        "sweep.sampler=random",
        "sweep.seed=1",
        "sweep.concurrency=1",
        "sweep.grace=1",
        "sweep.reduction=3",
    )
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
    # Optuna's study is in memory; this is what a driver that goes on makes of the journal.
    switches = {path: Parameter(Choices((True, False))) for path in ("task.explode", "task.fail")}
    space = Space({"optimizer.lr": Parameter(Range(1e-4, 1e-1, log=True)), **switches})
    proposer = Proposer(space, compose().sweep)
    proposer.recall(mixed.history)
    study = Everything(proposer.study)
    told = Counter(event["trial"] for event in mixed.events if event["event"] == "told")
    assert set(told.values()) == {1}
    assert len(told) == len(study.trials) == 14
    for number, trial in enumerate(study.trials):
        ours = mixed.history.trials[f"{number:04d}"]
        assert trial.params == ours.values
        if ours.state is State.FAILED:
            assert trial.state is TrialState.FAIL
        else:
            assert trial.state is TrialState.COMPLETE
            assert trial.constraints == {"finite": float(ours.state is State.DIVERGED)}
            assert trial.value == (1e6 if ours.objective is None else ours.objective)


def test_best_yaml_reproduces_the_best_trial_to_the_last_bit(mixed: Sweep) -> None:
    content = yaml.safe_load((mixed.folder / "best.yaml").read_text())
    config = compose(content["overrides"], content["config_dirs"])
    *_, last = prepare(config, print).run()
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
        runs = list((mixed.folder / "trials" / trial.id / "wandb").glob("offline-run-*/*.wandb"))
        assert len(runs) == 1 + trial.failures
        for run in runs:
            kinds = [record.WhichOneof("record_type") for record in records(run)]
            assert kinds[-1] == "exit"
        if not trial.failures:
            assert kinds.count("history") == trial.epoch


def test_the_log_can_be_grepped(mixed: Sweep) -> None:
    lines = (mixed.folder / "sweep.log").read_text().splitlines()
    for trial in mixed.history.trials.values():
        assert len([line for line in lines if f" trial={trial.id} started" in line]) == 1 + trial.failures
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
    assert main(arguments(tmp_path, "failing", "--trials", "3", *FAILING)) == 1
    captured = capsys.readouterr()
    assert "3 x failed: RuntimeError: planted failure" in captured.err
    assert "ristune.train" not in captured.out
    summary = json.loads((tmp_path / "runs" / "failing" / "summary.json").read_text())
    assert (summary["best"], summary["trials"]["failed"]) == (None, 3)


def test_a_sweep_most_of_whose_trials_fail_stops_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--trials", "30", *FAILING, "sweep.max_retries=0")
    assert main(arguments(tmp_path, "failing", *more)) == 1
    captured = capsys.readouterr()
    assert "5 of the 5 trials that ended have failed, more than sweep.max_failed_share (0.5)" in captured.err
    assert "x failed: RuntimeError: planted failure" in captured.err
    assert captured.out.splitlines()[-1].startswith("python -m ristune.sweep --resume ")
    summary = json.loads((tmp_path / "runs" / "failing" / "summary.json").read_text())
    assert summary["outcome"] == "broken"
    assert 5 <= summary["trials"]["failed"] < 10
