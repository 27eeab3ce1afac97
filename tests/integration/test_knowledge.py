"""Sweeps that give trials more data, and that learn from each other, on a real Ray."""

from pathlib import Path

import pytest
import yaml

from ristune.sweep import results, tuner
from ristune.sweep.__main__ import main
from ristune.sweep.history import State
from ristune.sweep.space import check_point
from ristune.sweep.space_parsing import read_space
from tests.integration.sweeps import arguments

pytestmark = pytest.mark.ray
SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "task.width": {"choices": [4, 16, 64]},
    "optimizer.weight_decay": {"low": 1e-4, "high": 1e-1, "log": True, "when": {"task.width": [16, 64]}},
    "constraints": ["optimizer.lr * task.width < 5"],
}
FIXED = ("sweep.concurrency=1", "sweep.startup_trials=3", "tracking.mode=disabled")


def test_a_sweep_by_shares_of_the_data_is_what_the_next_one_begins_from(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mine" / "space").mkdir(parents=True)
    (home / "mine" / "space" / "wider.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    shares = ("sweep.resource=data", "sweep.first_share=0.25", "sweep.reduction=2", "training.epochs=2")
    assert main(arguments(home, "old", "--trials", "6", *shares, *FIXED)) == 0
    old = home / "runs" / "old"
    trials = list(results.load(old).trials.values())
    # Rungs lie at the ends of the shares; who is stopped is so at one of them, who is not sees all the data.
    assert {trial.state for trial in trials} == {State.COMPLETE, State.STOPPED}
    assert {trial.epoch for trial in trials if trial.state is State.STOPPED} <= {2, 4}
    for trial in trials:
        by_epoch = [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
        assert [record["share"] for record in trial.records] == by_epoch[: trial.epoch]
        assert trial.state is State.STOPPED or trial.epoch == 6

    known = ("--warm-start", str(old), "--enqueue", str(old / "best.yaml"))
    wider = ("--config-dir", str(home / "mine"), "space=wider", "optimizer.weight_decay=0.01")
    assert main(arguments(home, "new", "--trials", "5", *known, *wider, "training.epochs=2", *FIXED)) == 0
    history = results.load(home / "runs" / "new")
    space = read_space(SPACE)
    values = [trial.values for trial in history.trials.values()]
    assert len(values) == 5 and all(check_point(space, point) == "" for point in values)
    best = yaml.safe_load((old / "best.yaml").read_text())["overrides"]
    assert f"optimizer.lr={values[0]['optimizer.lr']!r}" in best
    assert f"task.width={values[0]['task.width']}" in best
    told = [event for event in history.study if event["event"] == "known"]
    # What was not searched there has the value that the configuration there gave it.
    assert told and all(check_point(space, event["values"]) == "" for event in told)
    assert {event["trial"] for event in told} <= {trial.id for trial in trials}

    # A driver that was killed when all had been told has nothing left to run: Ray is not started.
    journal = home / "runs" / "new" / "journal" / "events.jsonl"
    *lines, last = journal.read_text().splitlines(keepends=True)
    assert '"sweep_ended"' in last
    journal.write_text("".join(lines))
    monkeypatch.delattr(tuner, "ray_running")
    assert main(["--resume", str(home / "runs" / "new")]) == 0
    assert results.load(home / "runs" / "new").ended["outcome"] == "finished"
