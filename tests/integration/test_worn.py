"""Workers that trials leave in no state for the next one, on a real Ray."""

from pathlib import Path

import pytest

from tests.integration.sweeps import CONFIGS, end, environment, launch

pytestmark = pytest.mark.ray


def test_a_worn_worker_is_replaced_and_no_trial_fails_by_it(home: Path) -> None:
    task = (
        "task=spoiling",
        "task.spoil=TorchFunctionMode",
        "simulator=toy",
        "space=toy",
        "--config-dir",
        str(CONFIGS),
    )
    data = ("simulator.train=64", "simulator.val=64", "simulator.test=64", f"data.uri={home / 'data'}")
    once = (
        "training.epochs=1",
        "sweep.grace=1",
        "training.device=cpu",
        "sweep.concurrency=1",
        "tracking.mode=disabled",
    )
    more = ("--name", "worn", "--trials", "3", f"output={home / 'runs'}", "sweep.max_retries=0")
    process = launch(["ristune.sweep", *task, *data, *once, *more], environment(home))
    sweep = end(process, home, "worn")
    assert sweep.status == 0, sweep.stderr
    assert sweep.summary["trials"]["complete"] == 3
    retried = [event for event in sweep.events if event["event"] == "retried"]
    assert [(event["trial"], event["counted"]) for event in retried] == [("0001", False), ("0002", False)]
    assert all(event["reason"].endswith("WornOut: TorchFunctionMode") for event in retried)
    assert [record["epoch"] for trial in sweep.history.trials.values() for record in trial.records] == [1] * 3
