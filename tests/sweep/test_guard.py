import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ristune.sweep.guard import CONTINUE, STOP, Decision, Guard
from ristune.sweep.history import History
from ristune.sweep.rules import Halving, Rung, levels
from tests.sweep.events import asked, history


class Bench:
    """Successive halving with its guard, and what it decided."""

    def __init__(
        self, rungs: Sequence[int] = (1, 3), reduction: int = 3, known: History | None = None
    ) -> None:
        self.decisions: list[Decision] = []
        self.halving = Halving(rungs, reduction)
        self.halving.recall(known or History())
        self.guard = Guard(self.halving, self.decisions.append, known or History())

    def report(self, trial: str, epoch: int, objective: Any, status: str = "running", **more: Any) -> str:
        result = {"epoch": epoch, "objective": objective, "status": status, "best_epoch": epoch, **more}
        return self.guard.decide(trial, result)

    @property
    def recorded(self) -> dict[int, dict[str, float]]:
        return {epoch: rung.objectives for epoch, rung in self.halving.rungs[0].items()}


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
    assert levels(grace, reduction, epochs) == rungs


def test_no_rung_where_the_grace_is_the_whole_training() -> None:
    bench = Bench(levels(3, 3, 3))
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
    assert bench.recorded[1] == {"a": 0.5}
    assert bench.decisions[-1] == Decision("b", 1, 0, 0, None, None, "stop", "loss is nan")
    # The cutoff is still that of the sound trials alone.
    assert bench.report("c", 1, 0.5) == CONTINUE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.1"])
def test_what_is_not_a_finite_number_stops_at_any_epoch_and_enters_no_rung(value: Any) -> None:
    bench = Bench()
    assert bench.report("a", 2, value) == STOP
    bench.guard.end("a", {"epoch": 2, "objective": value})
    assert all(not rung for rung in bench.recorded.values())


def test_the_ceiling_of_a_trial_without_a_finite_validation_enters_no_rung() -> None:
    bench = Bench()
    assert bench.report("a", 1, 1e6, best_epoch=0) == STOP
    assert not bench.recorded[1]


def test_a_diverged_end_enters_no_rung() -> None:
    # Ray does not ask the scheduler about a result that is done; it only tells it.
    bench = Bench()
    end = {"epoch": 3, "objective": 0.1, "status": "diverged", "best_epoch": 2}
    bench.guard.end("a", end)
    assert all(not rung for rung in bench.recorded.values())
    bench.guard.end("b", {**end, "status": "complete"})
    assert bench.recorded[3] == {"b": 0.1}


def test_a_repeated_report_changes_nothing() -> None:
    bench = Bench()
    bench.report("a", 1, 0.5)
    assert bench.report("a", 1, 0.1) == CONTINUE
    assert bench.recorded[1] == {"a": 0.5}
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
    assert bench.recorded == {1: {}, 3: {"a": 0.5}}


def test_a_report_without_epoch_or_objective_is_passed_over() -> None:
    bench = Bench()
    assert bench.guard.decide("a", {"status": "running"}) == CONTINUE
    assert bench.guard.decide("a", {"epoch": 1}) == CONTINUE
    bench.guard.end("a", {})
    assert not bench.recorded[1]


def test_a_study_with_diverging_trials_wastes_nothing_on_them() -> None:
    rng = np.random.default_rng(0)
    bench = Bench(levels(1, 3, 27))
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
        known.apply({"event": "decided", "time": 110.0, **decision.fields()})
    second = Bench(known=known)
    assert second.recorded == first.recorded
    # One that has been at the rung is not decided on again, and one that was stopped stays stopped.
    assert (second.report("a", 1, 0.5), second.report("c", 1, 0.6)) == (CONTINUE, STOP)
    found += [second.report(name, 1, value) for name, value in reports[3:]]
    assert found == expected
    assert second.recorded == whole.recorded


def test_a_quantile_of_a_rung_is_numpys() -> None:
    rng = np.random.default_rng(0)
    rung, values = Rung(), []
    for number in range(50):
        values.append(float(rng.choice([rng.normal(), 0.5])))
        rung.enter(str(number), values[-1])
        for share in (0.0, 0.25, 1 / 3, 0.5, 1.0):
            assert rung.quantile(share) == pytest.approx(np.percentile(values, 100 * share), abs=1e-12)
