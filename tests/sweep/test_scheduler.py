import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler

from ristune.sweep.history import History
from ristune.sweep.scheduler import Decision, GuardedASHA, Rungs, fields
from tests.sweep.events import asked, history

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


class Bench:
    """A scheduler and what it decided."""

    def __init__(
        self, epochs: int = 9, grace: int = 1, reduction: int = 3, history: History | None = None
    ) -> None:
        self.decisions: list[Decision] = []
        self.asha = GuardedASHA(epochs, grace, reduction, self.decisions.append, history or History())

    def report(self, trial: str, epoch: int, objective: Any, status: str = "running", **more: Any) -> str:
        result = {"epoch": epoch, "objective": objective, "status": status, "best_epoch": epoch, **more}
        return self.asha.on_trial_result(None, ray_trial(trial), result)


def ray_trial(name: str) -> Any:
    return SimpleNamespace(trial_id=f"ray-{name}", config={"trial": name})


@pytest.mark.parametrize(
    ("grace", "reduction", "epochs", "rungs"),
    [
        (1, 3, 27, [1, 3, 9]),
        (1, 3, 28, [1, 3, 9, 27]),
        (1, 10, 1001, [1, 10, 100, 1000]),
        (2, 2, 9, [2, 4, 8]),
    ],
)
def test_rungs_are_exact_powers_and_none_lies_at_the_end(
    grace: int, reduction: int, epochs: int, rungs: list[int]
) -> None:
    assert list(Rungs(grace, reduction, epochs).recorded) == rungs


def test_no_rung_where_the_grace_is_the_whole_training() -> None:
    bench = Bench(epochs=3, grace=3)
    assert [bench.report(name, 2, value) for name, value in (("a", 0.1), ("b", 9.0))] == [CONTINUE, CONTINUE]
    assert bench.decisions == []


def test_the_worst_stop_and_the_best_go_on() -> None:
    bench = Bench()
    actions = [bench.report(str(i), 1, value) for i, value in enumerate([0.5, 0.4, 0.6, 0.9, 0.1])]
    assert actions == [CONTINUE, CONTINUE, STOP, STOP, CONTINUE]
    # One in three goes on: the cutoff is the 33rd percentile of those before.
    assert bench.decisions[3].cutoff == pytest.approx(np.percentile([0.5, 0.4, 0.6], 100 / 3))
    assert bench.decisions[3].rung == 1
    assert "0.9 at epoch 1 is above the cutoff" in bench.decisions[3].reason
    assert bench.decisions[4].reason == ""


def test_an_equal_objective_goes_on() -> None:
    bench = Bench()
    assert [bench.report(name, 1, 0.5) for name in "abc"] == [CONTINUE] * 3


def test_a_diverged_trial_stops_and_enters_no_rung() -> None:
    bench = Bench()
    bench.report("a", 1, 0.5)
    assert bench.report("b", 1, 0.1, status="diverged", reason="loss is nan") == STOP
    assert bench.asha.rungs.recorded[1] == {"a": 0.5}
    assert bench.decisions[-1] == Decision("b", 1, 0, None, None, "stop", "loss is nan")
    # The cutoff is still that of the sound trials alone.
    assert bench.report("c", 1, 0.5) == CONTINUE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.1"])
def test_what_is_not_a_finite_number_stops_at_any_epoch_and_enters_no_rung(value: Any) -> None:
    bench = Bench()
    assert bench.report("a", 2, value) == STOP
    bench.asha.on_trial_complete(None, ray_trial("a"), {"epoch": 2, "objective": value})
    assert all(not rung for rung in bench.asha.rungs.recorded.values())


def test_the_ceiling_of_a_trial_without_a_finite_validation_enters_no_rung() -> None:
    bench = Bench()
    assert bench.report("a", 1, 1e6, best_epoch=0) == STOP
    assert not bench.asha.rungs.recorded[1]


def test_a_diverged_end_enters_no_rung() -> None:
    # Ray does not ask the scheduler about a result that is done; it only tells it.
    bench = Bench()
    end = {"epoch": 3, "objective": 0.1, "status": "diverged", "best_epoch": 2}
    bench.asha.on_trial_complete(None, ray_trial("a"), end)
    assert all(not rung for rung in bench.asha.rungs.recorded.values())
    bench.asha.on_trial_complete(None, ray_trial("b"), {**end, "status": "complete"})
    assert bench.asha.rungs.recorded[3] == {"b": 0.1}


def test_a_repeated_report_changes_nothing() -> None:
    bench = Bench()
    bench.report("a", 1, 0.5)
    assert bench.report("a", 1, 0.1) == CONTINUE
    assert bench.asha.rungs.recorded[1] == {"a": 0.5}
    assert bench.report("b", 1, 0.9) == STOP
    assert bench.report("b", 1, 0.9) == STOP
    assert len(bench.decisions) == 2


def test_a_late_report_of_an_earlier_epoch_does_not_stop_a_trial_twice() -> None:
    bench = Bench()
    bench.report("a", 3, 0.5)
    assert bench.report("a", 1, 0.7) == CONTINUE
    assert bench.report("b", 3, 0.9) == STOP
    assert bench.report("b", 1, 0.1) == STOP


def test_a_report_that_skips_a_rung_counts_at_the_highest_it_reached() -> None:
    bench = Bench()
    bench.report("a", 5, 0.5)
    assert bench.asha.rungs.recorded == {1: {}, 3: {"a": 0.5}}


def test_a_report_without_epoch_or_objective_is_passed_over() -> None:
    bench = Bench()
    assert bench.asha.on_trial_result(None, ray_trial("a"), {"status": "running"}) == CONTINUE
    assert bench.asha.on_trial_result(None, ray_trial("a"), {"epoch": 1}) == CONTINUE
    bench.asha.on_trial_complete(None, ray_trial("a"), {})
    assert not bench.asha.rungs.recorded[1]


def test_events_of_unknown_trials_do_no_harm() -> None:
    bench = Bench()
    bench.asha.on_trial_remove(None, ray_trial("never-seen"))
    bench.asha.on_trial_error(None, ray_trial("never-seen"))
    bench.asha.on_trial_complete(None, ray_trial("never-seen"), {})


def test_the_global_generator_is_not_touched() -> None:
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    bench = Bench()
    for name in "abc":
        bench.asha.on_trial_add(None, ray_trial(name))
        bench.report(name, 1, 0.5)
    assert np.random.random() == expected


def test_a_study_with_diverging_trials_wastes_nothing_on_them() -> None:
    rng = np.random.default_rng(0)
    bench = Bench(epochs=27)
    spent = {"sound": 0, "diverged": 0}
    for index in range(60):
        diverges = index % 3 == 0
        for epoch in range(1, 28):
            spent["diverged" if diverges else "sound"] += 1
            value = math.nan if diverges else float(rng.random())
            if bench.report(str(index), epoch, value) == STOP:
                break
    assert spent["diverged"] == 20
    assert spent["sound"] < 40 * 27 / 2


def test_a_resumed_sweep_goes_on_with_its_rungs() -> None:
    whole, first = Bench(), Bench()
    reports = [("a", 0.5), ("b", 0.4), ("c", 0.6), ("d", 0.45), ("e", 0.1)]
    expected = [whole.report(name, 1, value) for name, value in reports]
    found = [first.report(name, 1, value) for name, value in reports[:3]]
    known = history(*[asked(name) for name in "abc"])
    for decision in first.decisions:
        known.apply({"event": "decided", "time": 110.0, **fields(decision)})
    second = Bench(history=known)
    assert second.asha.rungs.recorded == first.asha.rungs.recorded
    # One that has been at the rung is not decided on again, and one that was stopped stays stopped.
    assert (second.report("a", 1, 0.5), second.report("c", 1, 0.6)) == (CONTINUE, STOP)
    found += [second.report(name, 1, value) for name, value in reports[3:]]
    assert found == expected
    assert second.asha.rungs.recorded == whole.asha.rungs.recorded
