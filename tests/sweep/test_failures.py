from ristune.sweep.failures import FailureLimit
from tests.sweep.events import asked, history, told


def test_a_sweep_most_of_whose_trials_fail_is_not_gone_on_with() -> None:
    sweep = history(*[asked(f"{n}") for n in range(12)])
    limit = FailureLimit(0.5, sweep)
    for n in range(8):
        sweep.apply(told(f"{n}", "failed" if n < 4 else "complete"))
    assert limit.exceeded() == ""
    sweep.apply(told("8", "failed"))
    assert limit.exceeded() == (
        "5 of the 9 trials that ended have failed, more than sweep.max_failed_share (0.5)"
    )


def test_few_failures_say_nothing_yet() -> None:
    sweep = history(*[asked(f"{n}") for n in range(4)])
    limit = FailureLimit(0.1, sweep)
    for n in range(4):
        sweep.apply(told(f"{n}", "failed"))
    assert limit.exceeded() == ""


def test_a_share_of_one_lets_all_fail() -> None:
    sweep = history(*[asked(f"{n}") for n in range(9)])
    limit = FailureLimit(1.0, sweep)
    for n in range(9):
        sweep.apply(told(f"{n}", "failed"))
    assert limit.exceeded() == ""


def test_failures_of_an_earlier_run_do_not_count_against_a_resumed_one() -> None:
    sweep = history(*[asked(f"{n}") for n in range(12)], *[told(f"{n}", "failed") for n in range(8)])
    limit = FailureLimit(0.5, sweep)
    sweep.apply(told("8", "failed"))
    assert limit.exceeded() == ""
