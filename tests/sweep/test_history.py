import pytest

from ristune.sweep.history import State
from tests.sweep.events import asked, history, mixed, reported, started, told


def test_the_best_is_the_lowest_that_did_not_fail() -> None:
    best = mixed().best
    assert best is not None
    assert (best.id, best.objective, best.best_epoch) == ("0000", 0.25, 2)


def test_a_trial_without_a_finite_validation_never_wins() -> None:
    sweep = history(asked("0000"), reported("0000", 1, 1e6, best_epoch=0), told("0000", "diverged"))
    assert sweep.best is None
    assert sweep.trials["0000"].objective is None


def test_a_trial_that_diverged_late_may_win_by_its_best() -> None:
    sweep = history(asked("0000"), reported("0000", 1, 0.5), told("0000", "diverged"))
    assert sweep.best is sweep.trials["0000"]


def test_an_objective_of_zero_or_less_wins() -> None:
    events = [asked(n) for n in "abc"] + [
        reported("a", 1, 0.0),
        reported("b", 1, -1.0),
        reported("c", 1, 0.5),
    ]
    best = history(*events).best
    assert best is not None and best.id == "b"


def test_of_equals_the_earlier_wins() -> None:
    best = history(asked("a"), asked("b"), reported("b", 1, 0.5), reported("a", 1, 0.5)).best
    assert best is not None and best.id == "a"


def test_a_trial_passes_through_its_states() -> None:
    sweep = history(asked("a"))
    trial = sweep.trials["a"]
    assert (trial.state, trial.state.ended) == (State.WAITING, False)
    sweep.apply(started("a", 105.0))
    assert (trial.state, trial.started) == (State.RUNNING, 105.0)
    sweep.apply(told("a", "interrupted", 106.0, "SIGINT"))
    assert (trial.state, trial.state.ended, trial.ended, trial.reason) == (
        State.INTERRUPTED,
        True,
        106.0,
        "SIGINT",
    )


def test_the_cause_of_a_failure_may_follow_it() -> None:
    sweep = history(asked("a"), told("a", "failed"))
    sweep.apply({"event": "failed", "time": 1.0, "trial": "a", "state": "oom", "reason": "killed"})
    assert (sweep.trials["a"].state, sweep.trials["a"].reason) == (State.OOM, "killed")


def test_a_late_report_keeps_the_best() -> None:
    sweep = history(asked("a"), reported("a", 3, 0.2), reported("a", 1, 0.5))
    assert (sweep.trials["a"].objective, sweep.trials["a"].epoch) == (0.2, 3)


def test_an_event_of_a_trial_never_asked_is_a_damaged_journal() -> None:
    with pytest.raises(KeyError, match="zzz"):
        history(started("zzz"))
