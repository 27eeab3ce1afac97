"""One replay of a stopping rule on recorded curves: virtual workers on a simulated clock.

The scheduler is the real one, called as Ray's loop calls it. An epoch takes the seconds that it took when
it was recorded. The worker whose epoch ends first is heard first.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from ristune.sweep.history import History
from ristune.sweep.scheduler import GuardedASHA

NONE, ASHA = "none", "asha"


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


def make_rule(name: str, epochs: int) -> Any:
    """The scheduler of a rule, None if nothing is stopped: the one place that knows their constructors.

    Args:
        name: `none` or `asha-GRACE-REDUCTION`.
        epochs: of a whole training.

    Raises:
        ValueError: if there is none of the name.
    """
    kind, *numbers = name.split("-")
    if kind == NONE and not numbers:
        return None
    if kind == ASHA and len(numbers) == 2:
        grace, reduction = (int(number) for number in numbers)
        return GuardedASHA(epochs, grace, reduction, lambda decision: None, History())
    raise ValueError(f"{name!r} is neither {NONE} nor {ASHA}-GRACE-REDUCTION")


def replay(
    curves: Sequence[Curve], order: Iterator[int], rule: Any, workers: int, limit: float = float("inf")
) -> Outcome:
    """Run curves until there are no more, or the time is up; an epoch that ends later is not heard.

    Args:
        curves: recorded.
        order: numbers of those that are begun, in turn; one may come again.
        rule: a new scheduler, or None.
        workers: at once.
        limit: seconds of training, all workers together.
    """
    epochs = trials = 0
    best, spent = float("inf"), 0.0
    whole: set[int] = set()
    # A worker's time, the worker, its trial and that one's curve, and epochs done.
    due: list[tuple[float, int, SimpleNamespace | None, int, int]] = [
        (0.0, w, None, 0, 0) for w in range(workers)
    ]
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
            if _stops(rule, trial, curve, done, ends):
                trial = None
        if trial is None:
            following = next(order, None)
            if following is None:
                continue
            number, done = following, 0
            trial = SimpleNamespace(trial_id=f"trial-{trials}", config={"trial": f"{trials:04d}"})
            trials += 1
            if rule is not None:
                rule.on_trial_add(None, trial)
        heapq.heappush(due, (clock + curves[number].seconds[done], worker, trial, number, done + 1))
    return Outcome(epochs, spent, trials, frozenset(whole), best)


def _stops(rule: Any, trial: SimpleNamespace, curve: Curve, epoch: int, ends: bool) -> bool:
    """Whether a trial has ended or is stopped; as in Ray, no rule is asked about a report that ends one."""
    if rule is None:
        return ends
    result = {
        "epoch": epoch,
        "objective": curve.best[epoch - 1],
        "best_epoch": min(epoch, curve.sound),
        "status": curve.status if ends else "running",
    }
    if not ends:
        decision = rule.on_trial_result(None, trial, result)
        if decision == TrialScheduler.CONTINUE:
            return False
        if decision != TrialScheduler.STOP:
            raise RuntimeError(f"{type(rule).__name__} says {decision}, which a replay does not know")
    rule.on_trial_complete(None, trial, result)
    return True
