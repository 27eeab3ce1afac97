import pytest

from ristune.sweep.history import State
from tests.sweep.events import (
    asked,
    decided,
    history,
    mixed,
    paused,
    reported,
    resumed,
    retried,
    started,
    told,
)


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
    sweep.apply(told("a", "stopped", 106.0, "above"))
    assert (trial.state, trial.state.ended, trial.ended, trial.reason) == (
        State.STOPPED,
        True,
        106.0,
        "above",
    )


def test_an_interrupted_trial_has_not_ended_and_goes_on() -> None:
    sweep = history(asked("a"), started("a", 102.0), reported("a", 1, 0.5), paused("a", 110.0))
    trial = sweep.trials["a"]
    assert (trial.state, trial.state.ended, trial.ended, trial.held) == (State.INTERRUPTED, False, None, 8.0)
    for event in (resumed(200.0), started("a", 201.0), told("a", "complete", 205.0)):
        sweep.apply(event)
    assert (trial.state, trial.started, trial.held) == (State.COMPLETE, 102.0, 12.0)


def test_what_a_killed_driver_left_running_rests_since_its_last_word() -> None:
    sweep = history(asked("a"), started("a", 102.0), reported("a", 1, 0.5), resumed(200.0))
    # Its report came at 103.
    assert (sweep.trials["a"].state, sweep.trials["a"].held) == (State.INTERRUPTED, 1.0)


def test_the_time_between_a_driver_and_the_next_does_not_count() -> None:
    sweep = history(asked("a", 101.0), started("a", 110.0), resumed(200.0), started("a", 203.0))
    assert sweep.seconds == 13.0
    assert sweep.elapsed(205.0) == 15.0
    sweep.apply({"event": "sweep_ended", "time": 204.0, "outcome": "finished", "reason": ""})
    assert sweep.elapsed(999.0) == sweep.seconds == 14.0


def test_a_resumed_sweep_is_running_again_with_what_was_asked_last() -> None:
    ended = {"event": "sweep_ended", "time": 150.0, "outcome": "finished", "reason": ""}
    sweep = history(ended, resumed(200.0, requested=9))
    assert (sweep.ended, sweep.started["requested"], sweep.started["name"]) == ({}, 9, "made-up")
    assert sweep.started["time"] == 100.0


def test_an_epoch_that_is_trained_again_is_recorded_once() -> None:
    events = [reported("a", 1, 0.5), reported("a", 2, 0.4), reported("a", 2, 0.4), reported("a", 3, 0.3)]
    trial = history(asked("a"), *events).trials["a"]
    assert [record["epoch"] for record in trial.records] == [1, 2, 3]
    assert (trial.objective, trial.epoch) == (0.3, 3)


def test_a_trial_that_runs_again_counts_the_failures_that_are_its_own() -> None:
    sweep = history(asked("a"), started("a", 102.0), retried("a", 104.0), started("a", 105.0))
    sweep.apply(retried("a", 106.0, "its node has died", counted=False))
    trial = sweep.trials["a"]
    assert (trial.state, trial.failures, trial.held) == (State.WAITING, 1, 3.0)


def test_rungs_are_what_was_decided() -> None:
    events = [decided("a", 1, 0.5), decided("b", 1, 0.9, "stop"), decided("a", 3, 0.4)]
    sweep = history(asked("a"), asked("b"), asked("c"), *events, decided("c", 0, None, "stop"))
    assert sweep.rungs == {1: {"a": 0.5, "b": 0.9}, 3: {"a": 0.4}}
    # The guard's stop is of a trial that has ended by itself.
    assert [trial.stopping for trial in sweep.trials.values()] == [False, True, False]


def test_what_came_after_an_epoch_that_is_trained_again_is_taken_back() -> None:
    sweep = history(asked("a"), *[reported("a", epoch, 1 / epoch) for epoch in (1, 2, 3)])
    # Its checkpoint was of epoch 1; not every device trains the same again.
    sweep.apply(reported("a", 2, 1.0, best_epoch=1))
    trial = sweep.trials["a"]
    assert ([row["epoch"] for row in trial.records], trial.objective, trial.best_epoch) == ([1, 2], 1.0, 1)


def test_an_event_of_a_trial_never_asked_is_a_damaged_journal() -> None:
    with pytest.raises(KeyError, match="zzz"):
        history(started("zzz"))
