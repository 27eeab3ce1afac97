"""Workers on a machine that is about to be taken away."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ristune import preemption
from ristune.preemption import Preempted
from ristune.sweep import worker as worker_module
from ristune.training import resume
from tests.sweep.actors import Actor, MakeActor, values_of

REASON = "aws: terminate at 2026-01-01T00:00:00Z"


@pytest.fixture
def notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(preemption.VARIABLE, str(tmp_path / "notice"))
    return preemption.place()


def test_a_notice_between_two_epochs_keeps_the_state_and_begins_no_further_window(
    make_actor: MakeActor, notice: Path
) -> None:
    made = make_actor("training.epochs=4")
    steps = made.steps("0000")
    first = [next(steps), next(steps)]
    preemption.give(notice, REASON)
    with pytest.raises(Preempted, match=REASON):
        next(steps)
    preemption.withdraw(notice)
    rest = Actor(made.base, made.folder).run("0000")
    assert values_of(first + rest) == values_of(make_actor("training.epochs=4").run("0000"))
    assert "goes on in epoch 3" in (made.folder / "trials" / "0000" / "log.txt").read_text()


@pytest.mark.parametrize("resource", ["epochs", "data"])
def test_a_notice_in_mid_epoch_costs_no_window(
    make_actor: MakeActor, notice: Path, monkeypatch: pytest.MonkeyPatch, resource: str
) -> None:
    options = ("training.epochs=2", "training.batch_size=4", f"sweep.resource={resource}")
    whole = values_of(make_actor(*options).run("0000"))
    original, asked = worker_module.prepare, itertools.count(1)

    class Struck:
        """Trains a trial, and meets a notice after the fifth window."""

        def __init__(self, trial: Any) -> None:
            self.trial = trial

        def run(self, *args: Any, stopping: Any, **kwargs: Any) -> Iterator[Any]:
            def struck() -> bool:
                if next(asked) == 5:
                    preemption.give(notice, REASON)
                return bool(stopping())

            yield from self.trial.run(*args, stopping=struck, **kwargs)

    monkeypatch.setattr(worker_module, "prepare", lambda config, report: Struck(original(config, report)))
    made = make_actor(*options)
    before: list[dict[str, Any]] = []
    with pytest.raises(Preempted):
        for result in made.steps("0000"):
            before.append(result)
    kept = resume.newest(made.folder / "trials" / "0000", pytest.fail)
    progress = kept.state["training"]["progress"]
    windows = progress["batches"]
    assert progress["done"] > 0
    preemption.withdraw(notice)
    monkeypatch.setattr(worker_module, "prepare", original)
    after = Actor(made.base, made.folder).run("0000")
    assert values_of(before + after) == whole
    assert windows == 5 or resource == "data"


def test_a_worker_on_a_noticed_machine_begins_no_trial(make_actor: MakeActor, notice: Path) -> None:
    made = make_actor()
    made.run("0000")
    preemption.give(notice, REASON)
    for trial in ("0001", "0002"):
        with pytest.raises(Preempted):
            made.run(trial)
        assert not (made.folder / "trials" / trial).exists()
    made.worker.cleanup()


def test_a_preempted_trial_may_begin_elsewhere_before_its_worker_has_ended(
    make_actor: MakeActor, notice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "PATIENCE", 0.0)
    made = make_actor()
    steps = made.steps("0000")
    next(steps)
    preemption.give(notice, REASON)
    with pytest.raises(Preempted):
        next(steps)
    preemption.withdraw(notice)
    assert Actor(made.base, made.folder).run("0000")[-1]["status"] == "complete"
