import optuna
from optuna.trial import TrialState

from ristune.sweep.window import Window


def study(limit: int) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(storage=Window(limit), study_name="s", sampler=sampler)


def end(study: optuna.Study, *values: float | None, feasible: bool = True) -> None:
    """Trials of these values; None is one that failed."""
    for value in values:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        if value is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        trial.set_constraint("finite", 0.0 if feasible else 1.0)
        study.tell(trial, value)


def numbers(study: optuna.Study) -> list[int]:
    return [trial.number for trial in study.trials]


def test_all_is_seen_while_it_fits_but_what_failed() -> None:
    one = study(8)
    end(one, 3.0, None, 1.0)
    running = one.ask()
    assert numbers(one) == [0, 2, running.number]
    assert [trial.number for trial in one.get_trials(states=(TrialState.COMPLETE,))] == [0, 2]


def test_of_more_the_best_and_the_latest_are_seen() -> None:
    one = study(8)
    end(one, 0.0, 9.0, 1.0, *[5.0 + n for n in range(10)])
    # The two best, and the latest six.
    assert numbers(one) == [0, 2, 7, 8, 9, 10, 11, 12]


def test_running_trials_take_a_share_when_many_have_ended() -> None:
    one = study(8)
    asked = [one.ask().number for _ in range(6)]
    assert numbers(one) == asked
    end(one, *[float(n) for n in range(20)])
    seen = numbers(one)
    assert len(seen) == 8
    # The latest two of those that run, and the best two.
    assert [n for n in seen if n in asked] == [4, 5]
    assert {6, 7} <= set(seen)
    assert seen[-4:] == [22, 23, 24, 25]


def test_the_infeasible_never_count_as_the_best_and_are_shown_with_the_worst_value_in_view() -> None:
    one = study(8)
    end(one, -5.0, 1e6, feasible=False)
    assert [trial.value for trial in one.trials] == [-5.0, 1e6]
    end(one, 2.0, 1.0)
    assert [trial.value for trial in one.trials] == [2.0, 2.0, 2.0, 1.0]
    assert [trial.constraints["finite"] for trial in one.trials] == [1.0, 1.0, 0.0, 0.0]
    end(one, *[3.0] * 6)
    assert numbers(one) == list(range(2, 10))


def test_a_point_that_waits_is_found_however_long_the_study_is() -> None:
    one = study(8)
    end(one, *[1.0] * 20)
    one.enqueue_trial({"x": 0.125})
    trial = one.ask()
    assert trial.suggest_float("x", 0, 1) == 0.125
