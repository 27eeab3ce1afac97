import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ristune.sweep import worker as worker_module
from ristune.training import checkpoint
from tests.sweep.actors import Actor, MakeActor, values_of


@pytest.fixture
def actor(make_actor: MakeActor) -> MakeActor:
    return make_actor


def test_a_trial_is_its_records_and_the_last_is_done(actor: MakeActor) -> None:
    results = actor().run("0000", optimizer__lr=0.01)
    assert [result["done"] for result in results] == [False, False, True]
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert results[-1]["status"] == "complete"
    assert results[-1]["objective"] == results[-1]["record"]["objective"]


def test_the_best_checkpoint_carries_the_trials_values(actor: MakeActor) -> None:
    made = actor()
    made.run("0007", task__width=4)
    state = checkpoint.load(made.folder / "trials" / "0007" / "best").state
    assert state["config"]["task"]["width"] == 4
    assert "task.width=4" in state["overrides"]


def test_a_used_actor_trains_as_a_fresh_one_does(actor: MakeActor) -> None:
    fresh = values_of(actor().run("0000", optimizer__lr=0.01, task__width=8))
    used = actor()
    used.run("0001", optimizer__lr=0.5, task__width=64, training__batch_size=32)
    used.run("0002", task__explode=True)
    used.run("0003", task__fail=True)
    used.run("0004", epochs=1)
    torch.rand(5)
    assert values_of(used.run("0000", optimizer__lr=0.01, task__width=8)) == fresh


def test_global_generators_do_not_leak_into_a_trial(
    actor: MakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    class Drawing:
        """Draws from every global generator, as a task's own code may, at its first batch."""

        def __init__(self, trial: Any) -> None:
            self.trial = trial

        def run(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            for record in self.trial.run(*args, **kwargs):
                drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
                yield record

    original = worker_module.prepare
    monkeypatch.setattr(worker_module, "prepare", lambda config, report: Drawing(original(config, report)))
    used = actor()
    used.run("0000", epochs=1)
    used.run("0001", epochs=2)
    used.run("0002", epochs=1)
    assert drawn[0] == drawn[1] == drawn[3] != drawn[2]


def test_threads_of_one_trial_are_not_the_next_ones(actor: MakeActor) -> None:
    before = torch.get_num_threads()
    try:
        used = actor()
        used.run("0000", epochs=1, training__threads=2)
        assert torch.get_num_threads() == 2
        used.run("0001", epochs=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_an_exception_fails_the_trial_and_the_next_one_runs(actor: MakeActor) -> None:
    used = actor()
    failed = used.run("0000", task__fail=True)
    assert [(r["status"], r["done"], r["record"]) for r in failed] == [("failed", True, None)]
    assert failed[0]["reason"] == "RuntimeError: planted failure"
    assert "planted failure" in (used.folder / "trials" / "0000" / "error.txt").read_text()
    assert used.run("0001")[-1]["status"] == "complete"


def test_a_trial_that_fails_at_once_does_not_report_the_one_before(actor: MakeActor) -> None:
    used = actor()
    assert used.run("0000")[-1]["objective"] < 10
    (failed,) = used.run("0001", task__fail=True)
    assert (failed["objective"], failed["best_epoch"], failed["epoch"]) == (1e6, 0, 0)


def test_where_there_is_a_gpu_an_exception_costs_the_actor(
    actor: MakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    with pytest.raises(RuntimeError, match="planted failure"):
        actor().run("0000", task__fail=True)


def test_values_the_configuration_refuses_fail_one_trial(actor: MakeActor) -> None:
    (result,) = actor().run("0000", optimizer__lr=-1.0)
    assert result["reason"].startswith("InputError: optimizer.lr: got -1.0")


def test_running_out_of_memory_ends_a_trial_with_its_best(
    actor: MakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = worker_module.prepare

    class Hungry:
        def __init__(self, trial: Any) -> None:
            self.trial = trial

        def run(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            yield next(self.trial.run(*args, **kwargs))
            raise torch.OutOfMemoryError("CUDA out of memory.\n Tried to allocate 9 GiB")

    monkeypatch.setattr(worker_module, "prepare", lambda config, report: Hungry(original(config, report)))
    first, last = actor().run("0000")
    assert (last["status"], last["done"], last["record"]) == ("oom", True, None)
    assert (last["objective"], last["best_epoch"]) == (first["objective"], 1)
    assert last["reason"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB"


def test_a_diverged_trial_says_why(actor: MakeActor) -> None:
    (result,) = actor().run("0000", task__explode=True)
    assert (result["status"], result["done"], result["best_epoch"]) == ("diverged", True, 0)
    assert result["objective"] == 1e6
    assert result["reason"]


class FakeRun:
    def __init__(self, broken: str) -> None:
        self.broken = broken
        self.rows: list[int] = []
        self.summary: Mapping[str, Any] = {}

    def log(self, row: Mapping[str, Any], step: int) -> None:
        if self.broken == "log":
            raise OSError("no network")
        self.rows.append(step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        if self.broken == "finish":
            raise OSError("no network")
        self.summary = summary


@pytest.mark.parametrize("broken", ["", "open", "log", "finish", "close"])
def test_tracking_that_fails_costs_a_warning_and_no_trial(
    actor: MakeActor, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    runs = []

    @contextmanager
    def track(*args: Any, **kwargs: Any) -> Iterator[FakeRun]:
        if broken == "open":
            raise OSError("no network")
        runs.append(FakeRun(broken))
        yield runs[-1]
        if broken == "close":
            raise OSError("no network")

    monkeypatch.setattr(worker_module, "track", track)
    results = actor().run("0000")
    assert [result["status"] for result in results] == ["running", "running", "complete"]
    warnings = [text for result in results for text in result["warnings"]]
    assert len(warnings) == (1 if broken else 0)
    assert all("no network" in text for text in warnings)
    if not broken:
        assert runs[0].rows == [1, 2, 3]
        assert runs[0].summary["state"] == "complete"


def test_a_trial_that_is_stopped_is_closed_as_stopped(
    actor: MakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[FakeRun] = []
    ended: list[BaseException | None] = []

    @contextmanager
    def track(*args: Any, **kwargs: Any) -> Iterator[FakeRun]:
        runs.append(FakeRun(""))
        try:
            yield runs[-1]
            ended.append(None)
        except RuntimeError as error:
            ended.append(error)
            raise

    monkeypatch.setattr(worker_module, "track", track)
    used = actor()
    used.run("0000", epochs=1)
    used.run("0001", task__fail=True)
    used.run("0002", epochs=1)
    used.worker.cleanup()
    used.worker.cleanup()
    assert [run.summary.get("state") for run in runs] == ["stopped", None, "stopped"]
    # The failed one is left as an exception leaves it, so that W&B shows it as failed.
    assert [type(error).__name__ for error in ended] == ["NoneType", "RuntimeError", "NoneType"]


def test_each_trial_is_tracked_in_its_folder_under_the_sweeps_name(
    actor: MakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    @contextmanager
    def track(config: Any, directory: Path, **kwargs: Any) -> Iterator[FakeRun]:
        seen.append({"directory": directory, **kwargs})
        yield FakeRun("")

    monkeypatch.setattr(worker_module, "track", track)
    used = actor()
    used.run("0000", epochs=1, task__width=4)
    used.run("0001", epochs=1, task__width=8)
    assert [run["directory"] for run in seen] == [used.folder / "trials" / n for n in ("0000", "0001")]
    assert [run["name"] for run in seen] == ["s-0000", "s-0001"]
    assert {run["group"] for run in seen} == {"s"}
    assert [run["values"] for run in seen] == [{"task.width": 4}, {"task.width": 8}]
    assert seen[1]["resolved"]["task"]["width"] == 8
    json.dumps(seen[1]["resolved"])


def test_a_trial_that_was_lost_goes_on_from_its_checkpoint(actor: MakeActor) -> None:
    whole = actor("training.epochs=5").run("0000")
    first = actor("training.epochs=5")
    lost = first.run("0000", epochs=2)
    first.worker.cleanup()
    # The last record came before its state was kept: the epoch is trained, and reported, again.
    second = Actor(first.setup["base"], first.folder)
    found = second.run("0000")
    assert [result["epoch"] for result in found] == [2, 3, 4, 5]
    assert values_of(lost) == values_of(whole)[:2]
    assert values_of(found) == values_of(whole)[1:]
    assert "goes on in epoch 2" in (first.folder / "trials" / "0000" / "log.txt").read_text()


def test_a_checkpoint_that_never_was_whole_costs_no_trial(actor: MakeActor) -> None:
    made = actor()
    torn = made.folder / "trials" / "0000" / "resume" / "000002-000000000"
    torn.mkdir(parents=True)
    (torn / "state.json").write_text("{")
    assert [result["epoch"] for result in made.run("0000")] == [1, 2, 3]
    assert "begun anew" in (made.folder / "trials" / "0000" / "log.txt").read_text()


def test_a_refused_value_is_certain_to_be_refused_again(actor: MakeActor) -> None:
    made = actor()
    [refused] = made.run("0000", optimizer__lr=-1.0)
    assert (refused["status"], refused["certain"]) == ("failed", True)
    [failed] = made.run("0001", task__fail=True)
    assert (failed["status"], failed["certain"]) == ("failed", False)


def test_a_checkpoint_of_other_values_is_not_gone_on_with(actor: MakeActor) -> None:
    made = actor("training.epochs=5")
    made.run("0000", epochs=3, optimizer__lr=0.5)
    made.worker.cleanup()
    second = Actor(made.setup["base"], made.folder)
    found = second.run("0000", optimizer__lr=1e-4)
    assert [result["epoch"] for result in found] == [1, 2, 3, 4, 5]
    assert values_of(found) == values_of(actor("training.epochs=5").run("0000", optimizer__lr=1e-4))
