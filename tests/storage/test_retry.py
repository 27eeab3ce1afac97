import random

import pytest

from ristune.storage.retry import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, GaveUp, Transient, retry


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now, self.pauses = 100.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def failing(times, answer="answer", tick=None):
    """A call that fails so many times; each takes `tick` seconds of a clock."""
    calls = iter(range(10**9))

    def call():
        if tick:
            tick()
        if next(calls) < times:
            raise Transient("a cause")
        return answer

    return call


@pytest.mark.parametrize("times", [0, 1, 7])
def test_a_failure_that_passes_is_not_seen(times):
    time = Time()
    assert retry(failing(times), 60.0, clock=time.clock, sleep=time.sleep) == "answer"
    assert len(time.pauses) == times


def test_pauses_are_drawn_below_a_bound_that_doubles_up_to_the_longest():
    time, bounds = Time(), []

    def uniform(low, high):
        bounds.append((low, high))
        return high

    with pytest.raises(GaveUp):
        retry(failing(10**9), 60.0, clock=time.clock, sleep=time.sleep, uniform=uniform)
    assert bounds[:3] == [
        (0, FIRST_PAUSE_SECONDS),
        (0, 2 * FIRST_PAUSE_SECONDS),
        (0, 4 * FIRST_PAUSE_SECONDS),
    ]
    assert max(bounds) == bounds[-1] == (0, LONGEST_PAUSE_SECONDS)


@pytest.mark.parametrize("deadline", [0.5, 2.0, 60.0])
def test_no_attempt_begins_after_the_deadline(deadline):
    time, begun = Time(), []
    call = failing(10**9, tick=lambda: begun.append(time.now))
    with pytest.raises(GaveUp) as caught:
        retry(call, deadline, clock=time.clock, sleep=time.sleep)
    assert max(begun) <= 100.0 + deadline
    assert caught.value.attempts == len(begun) > 1
    assert caught.value.seconds == pytest.approx(time.now - 100.0)


def test_slow_attempts_count_towards_the_deadline():
    time = Time()
    with pytest.raises(GaveUp, match="2 attempts in 80.0 s; the last: a cause"):
        retry(
            failing(10**9, tick=lambda: time.sleep(40.0)),
            60.0,
            clock=time.clock,
            sleep=time.sleep,
            uniform=lambda low, high: 0.0,
        )


def test_other_errors_go_through_at_once():
    calls = []

    def call():
        calls.append(1)
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        retry(call)
    assert len(calls) == 1


def test_the_global_generator_is_not_touched():
    state = random.getstate()
    retry(failing(2), 60.0)
    assert random.getstate() == state
