"""Ray's loop on a simulated clock: the real searcher, scheduler and journal, with workers that only wait."""

import heapq
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ristune.config import Config
from ristune.sweep.journal import FILE, Event, Journal
from ristune.sweep.scheduler import GuardedASHA
from ristune.sweep.search import JournaledSearch
from ristune.sweep.space import Space

Values = Mapping[str, Any]
# What a trial reports at an epoch, and how long that epoch took.
Curve = Callable[[str, Values, int], tuple[float, float]]


@dataclass
class Timings:
    """Seconds of real time that the engine took, in the order of the calls, and the memory it had in the end.

    Attributes:
        asks: of each proposal.
        events: of each report: scheduler, journal and searcher together.
        memory: bytes, at the most.
    """

    asks: list[float] = field(default_factory=list)
    events: list[float] = field(default_factory=list)
    memory: int = 0


def run(
    config: Config,
    space: Space,
    folder: Path,
    trials: int,
    workers: int,
    epochs: int,
    curve: Curve,
    progress: Callable[[int], None] = lambda told: None,
) -> tuple[JournaledSearch, Timings]:
    """A whole sweep.

    Args:
        config: of the sweep; its scheduler stops trials.
        space: what is searched.
        folder: for the journal.
        trials: in total.
        workers: trials at once.
        epochs: of a whole trial.
        curve: of a trial.
        progress: is given the number of trials that were told, now and then.

    Returns:
        The searcher, and how long the engine took.
    """
    journal = Journal(folder / FILE)
    journal.append(Event.SWEEP_STARTED, name="virtual", requested=trials, epochs=epochs)
    search = JournaledSearch(space, journal, config.sweep, trials, config.training.ceiling)
    scheduler = GuardedASHA(search, epochs)
    timings = Timings()
    clock: list[tuple[float, int, Any]] = []
    now, count, told, more = 0.0, 0, 0, True
    while more or clock:
        while more and len(clock) < workers:
            began = time.perf_counter()
            request = search.suggest(f"ray-{count}")
            timings.asks.append(time.perf_counter() - began)
            if request is None or request == Searcher.FINISHED:
                timings.asks.pop()
                more = request is None and bool(clock)
                break
            trial = SimpleNamespace(trial_id=f"ray-{count}", config=request, error_file=None, epoch=0)
            search.started(trial.trial_id)
            count += 1
            more = count < trials
            heapq.heappush(clock, (now + _seconds(curve, trial), count, trial))
        if not clock:
            break
        now, order, trial = heapq.heappop(clock)
        trial.epoch += 1
        result = _result(curve, trial, epochs)
        began = time.perf_counter()
        ended = _report(search, scheduler, trial, result)
        timings.events.append(time.perf_counter() - began)
        if ended:
            told += 1
            progress(told)
        else:
            heapq.heappush(clock, (now + _seconds(curve, trial), order, trial))
    journal.close()
    timings.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return search, timings


def by_trial(seconds: list[float], edges: list[int]) -> list[tuple[int, float, float]]:
    """Median and 95th percentile between edges: `(first, median, percentile)` of each stretch."""
    stretches = zip(edges, [*edges[1:], len(seconds)], strict=True)
    return [
        (first, float(np.median(part)), float(np.percentile(part, 95)))
        for first, last in stretches
        if len(part := seconds[first:last])
    ]


def _seconds(curve: Curve, trial: Any) -> float:
    return curve(trial.config["trial"], trial.config["values"], trial.epoch + 1)[1]


def _result(curve: Curve, trial: Any, epochs: int) -> dict[str, Any]:
    objective, seconds = curve(trial.config["trial"], trial.config["values"], trial.epoch)
    status = "complete" if trial.epoch == epochs else "running"
    row = {"epoch": trial.epoch, "objective": objective, "best_epoch": trial.epoch, "status": status}
    # As large as a record is.
    record = {**row, "reason": "", "seconds": seconds, **{f"val/metric{n}": objective for n in range(30)}}
    return {**row, "reason": "", "record": record, "warnings": []}


def _report(search: JournaledSearch, scheduler: GuardedASHA, trial: Any, result: dict[str, Any]) -> bool:
    """What Ray does with a report; whether the trial has ended."""
    if result["status"] == "running":
        if scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE:
            search.on_trial_result(trial.trial_id, result)
            return False
    scheduler.on_trial_complete(None, trial, result)
    search.on_trial_complete(trial.trial_id, result)
    return True
