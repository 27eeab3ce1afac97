from collections.abc import Callable
from typing import Any

import pytest

from ristune.config import Config
from ristune.sweep.history import State, TrialHistory
from ristune.sweep.telling import Verdict, verdict
from tests.sweep.events import asked, history, reported, told

CEILING = 1e6
Toy = Callable[..., Config]


def trial(*objectives: float, state: State = State.RUNNING, name: str = "x") -> TrialHistory:
    """A trial with one objective an epoch."""
    events = [reported(name, epoch, value) for epoch, value in enumerate(objectives, start=1)]
    one = history(asked(name), *events).trials[name]
    one.state = state
    return one


def test_a_failed_trial_teaches_nothing(toy: Toy) -> None:
    assert verdict(State.FAILED, trial(0.1), [], toy().sweep, CEILING) == Verdict("fail", None, False, 1)


@pytest.mark.parametrize("state", [State.DIVERGED, State.OOM, State.COMPLETE])
def test_without_a_finite_validation_it_is_infeasible(toy: Toy, state: State) -> None:
    assert verdict(state, trial(), [], toy().sweep, CEILING) == Verdict("complete", CEILING, False, 0)


@pytest.mark.parametrize(("setting", "feasible"), [("best", True), ("infeasible", False)])
def test_what_diverged_late_is_told_as_configured(toy: Toy, setting: str, feasible: bool) -> None:
    config = toy(f"sweep.diverged={setting}").sweep
    told_as = verdict(State.DIVERGED, trial(0.5, 0.3), [], config, CEILING)
    assert told_as == Verdict("complete", 0.3, feasible, 2)


def test_out_of_memory_is_kept_away_from_however_good_it_was(toy: Toy) -> None:
    assert verdict(State.OOM, trial(0.3), [], toy().sweep, CEILING) == Verdict("complete", 0.3, False, 1)


@pytest.mark.parametrize("setting", ["best", "infeasible"])
def test_a_whole_trial_is_told_with_its_best_whatever_is_configured(toy: Toy, setting: str) -> None:
    config = toy(f"sweep.diverged={setting}", "sweep.stopped=pruned").sweep
    assert verdict(State.COMPLETE, trial(0.5), [], config, CEILING) == Verdict("complete", 0.5, True, 1)


@pytest.mark.parametrize(("setting", "kind"), [("complete", "complete"), ("pruned", "pruned")])
def test_a_stopped_trial_is_told_as_configured(toy: Toy, setting: str, kind: str) -> None:
    config = toy(f"sweep.stopped={setting}").sweep
    assert verdict(State.STOPPED, trial(0.5), [], config, CEILING) == Verdict(kind, 0.5, True, 1)


def test_by_quantile_a_stopped_trial_is_told_what_its_like_came_to(toy: Toy) -> None:
    config = toy("sweep.stopped=quantile").sweep
    whole = [trial(0.9 + n / 100, 0.1 * n, state=State.COMPLETE, name=str(n)) for n in range(1, 6)]
    # As good as the median at its first epoch, so as good as the median in the end.
    stopped = trial(0.925)
    others = [*whole, stopped]
    assert verdict(State.STOPPED, stopped, others, config, CEILING).value == pytest.approx(0.1 + 0.4 * 0.4)
    # Its own best is kept where it is better than that, and while few have ended.
    best = trial(0.001)
    assert verdict(State.STOPPED, best, [*whole, best], config, CEILING).value == 0.001
    assert verdict(State.STOPPED, stopped, whole[:3], config, CEILING).value == 0.925


def test_the_verdict_is_told_to_optuna_as_it_is(toy: Toy, make_bench: Any) -> None:
    bench = make_bench(toy("sweep.stopped=pruned"))
    bench.ask("r1")
    report = {"epoch": 3, "objective": 0.5, "best_epoch": 2, "status": "running", "reason": ""}
    bench.search.on_trial_complete("r1", {**report, "record": report, "warnings": []})
    [told_trial] = bench.study.trials
    assert (told_trial.state.name, told_trial.value, told_trial.last_step) == ("PRUNED", 0.5, 3)
    assert told("0000", "stopped")["state"] == bench.journal.history.trials["0000"].state
