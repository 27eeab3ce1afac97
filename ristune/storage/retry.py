"""Calls that may fail for a moment: repeated with full jitter until a deadline."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

# How long a store may keep failing before its user is told.
DEADLINE_SECONDS = 60.0
# Pauses are drawn from zero to a bound that doubles from the first to the longest.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
# A generator of its own: the global one belongs to what the run has seeded.
_jitter = random.Random()
T = TypeVar("T")


class Transient(Exception):
    """A failure that may pass; its text says what failed."""


class GaveUp(Exception):
    """A call that still failed at its deadline.

    Attributes:
        attempts: how many times it was made.
        seconds: from the first of them to the last failure.
        cause: what the last one failed with.
    """

    def __init__(self, attempts: int, seconds: float, cause: str) -> None:
        super().__init__(f"{attempts} attempts in {seconds:.1f} s; the last: {cause}")
        self.attempts = attempts
        self.seconds = seconds
        self.cause = cause


def retry(
    call: Callable[[], T],
    deadline: float = DEADLINE_SECONDS,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Callable[[float, float], float] = _jitter.uniform,
) -> T:
    """The result of a call, made again after each `Transient` until the deadline.

    No attempt begins after the deadline; one that has begun is not cut short.

    Args:
        call: what is tried; anything but `Transient` goes through at once.
        deadline: seconds from the first attempt on.
        clock: seconds on a clock that never goes back.
        sleep: waits so many seconds.
        uniform: draws from an interval.

    Raises:
        GaveUp: the next attempt would begin after the deadline.
    """
    start = clock()
    attempts, bound = 0, FIRST_PAUSE_SECONDS
    while True:
        attempts += 1
        try:
            return call()
        except Transient as failure:
            cause = str(failure)
        pause = uniform(0.0, bound)
        bound = min(2 * bound, LONGEST_PAUSE_SECONDS)
        elapsed = clock() - start
        if elapsed + pause > deadline:
            raise GaveUp(attempts, elapsed, cause)
        sleep(pause)
