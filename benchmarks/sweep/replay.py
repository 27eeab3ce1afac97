"""One replay of a stopping rule on recorded curves: virtual workers on a simulated clock.

The rules and the guard are those of a sweep, called as its scheduler calls them. An epoch takes the seconds
that it took when it was recorded. The worker whose epoch ends first is heard first.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ristune.sweep.guard import CONTINUE, Guard
from ristune.sweep.history import History
from ristune.sweep.rules import make_rule
from ristune.sweep.shares import rung_levels
from ristune.sweep_config import SweepConfig

# Numbers that belong to a rule's name.
PARTS = {"none": 0, "median": 1, "asha": 2, "hyperband": 2}


@dataclass(frozen=True)
class Curve:
    """What a configuration did.

    Attributes:
        best: the objective by epoch, the best so far; the ceiling until one is finite.
        sound: epochs with a finite objective; fewer than all of them if it diverged.
        seconds: of each epoch.
        status: how it ended.
    """

    best: tuple[float, ...]
    sound: int
    seconds: tuple[float, ...]
    status: str


@dataclass(frozen=True)
class Outcome:
    """What came of a replay.

    Attributes:
        epochs: that were run.
        seconds: of training, all workers together.
        trials: begun.
        whole: curves that came to their own end, by number.
        best: the lowest objective that was reported.
    """

    epochs: int
    seconds: float
    trials: int
    whole: frozenset[int]
    best: float


def curve_of(line: dict[str, Any], ceiling: float) -> Curve:
    """A curve as it was recorded."""
    best, lowest, sound = [], ceiling, 0
    for value in line["objective"]:
        if value is not None:
            lowest, sound = min(lowest, value), sound + 1
        best.append(lowest)
    return Curve(tuple(best), sound, tuple(line["seconds"]), line["status"])


def make_guard(name: str, settings: SweepConfig, epochs: int, seed: int) -> Guard:
    """What decides by a rule, with nothing decided yet: the one place that knows the constructors.

    Args:
        name: `none`, `median-GRACE`, `asha-GRACE-REDUCTION` or `hyperband-GRACE-REDUCTION`.
        settings: what a sweep has beside.
        epochs: of a whole training.
        seed: of hyperband's brackets.

    Raises:
        ValueError: if there is no rule of the name.
    """
    scheduler, *numbers = name.split("-")
    if len(numbers) != PARTS.get(scheduler, -1) or not all(number.isdecimal() for number in numbers):
        raise ValueError(
            f"{name!r} is none of none, median-GRACE, and asha or hyperband with -GRACE-REDUCTION"
        )
    own = dict(zip(("grace", "reduction"), map(int, numbers), strict=False))
    settings = replace(settings, scheduler=scheduler, seed=seed, **own)
    rule = make_rule(settings, rung_levels(settings, epochs))
    return Guard(rule, lambda decision: None, History())


def replay(
    curves: Sequence[Curve], order: Iterator[int], guard: Guard, workers: int, limit: float = float("inf")
) -> Outcome:
    """Run curves until there are no more, or the time is up; an epoch that ends later is not heard.

    Args:
        curves: recorded.
        order: numbers of those that are begun, in turn; one may come again.
        guard: a new one.
        workers: at once.
        limit: seconds of training, all workers together.
    """
    epochs = trials = 0
    best, spent = float("inf"), 0.0
    whole: set[int] = set()
    # A worker's time, the worker, its trial and that one's curve, and epochs done.
    due: list[tuple[float, int, str | None, int, int]] = [(0.0, w, None, 0, 0) for w in range(workers)]
    while due:
        clock, worker, trial, number, done = heapq.heappop(due)
        if clock > limit / workers:
            spent += limit / workers - (clock - curves[number].seconds[done - 1])
            continue
        if trial is not None:
            curve = curves[number]
            epochs, spent = epochs + 1, spent + curve.seconds[done - 1]
            best = min(best, curve.best[done - 1]) if curve.sound else best
            ends = done == len(curve.best)
            if ends:
                whole.add(number)
            if _stops(guard, trial, curve, done, ends):
                trial = None
        if trial is None:
            following = next(order, None)
            if following is None:
                continue
            number, done = following, 0
            trial = f"{trials:04d}"
            trials += 1
        heapq.heappush(due, (clock + curves[number].seconds[done], worker, trial, number, done + 1))
    return Outcome(epochs, spent, trials, frozenset(whole), best)


def _stops(guard: Guard, trial: str, curve: Curve, epoch: int, ends: bool) -> bool:
    """Whether a trial has ended or is stopped; as in Ray, no rule is asked about a report that ends one."""
    report = {
        "epoch": epoch,
        "objective": curve.best[epoch - 1],
        "best_epoch": min(epoch, curve.sound),
        "status": curve.status if ends else "running",
    }
    if not ends and guard.decide(trial, report) == CONTINUE:
        return False
    guard.end(trial, report)
    return True
