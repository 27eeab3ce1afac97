"""What the sampler is told of a trial that has ended."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ristune.sweep.history import State, TrialHistory
from ristune.sweep_config import SweepConfig

COMPLETE, PRUNED, FAIL = "complete", "pruned", "fail"
# Fewer whole trials than these have no quantiles worth the name.
ENOUGH = 4


@dataclass(frozen=True)
class Verdict:
    """One trial, as the sampler is told of it.

    Attributes:
        kind: complete, pruned, or fail: the sampler learns nothing of it.
        value: to be minimised, finite; None with fail.
        feasible: whether it may be aimed at; if not the sampler learns to keep away.
        epoch: up to which it was trained.
    """

    kind: str
    value: float | None
    feasible: bool
    epoch: int

    def fields(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def verdict(
    state: State,
    trial: TrialHistory,
    others: Collection[TrialHistory],
    config: SweepConfig,
    ceiling: float,
) -> Verdict:
    """How a trial's end is put to the sampler.

    Args:
        state: its end.
        trial: its records, and its best objective, if it had a finite validation.
        others: all trials of the sweep.
        config: `stopped` and `diverged`.
        ceiling: the value of a trial without any finite validation.
    """
    best = trial.objective
    if state is State.FAILED:
        return Verdict(FAIL, None, False, trial.epoch)
    if best is None:
        return Verdict(COMPLETE, ceiling, False, trial.epoch)
    if state is State.STOPPED and config.stopped == "pruned":
        return Verdict(PRUNED, best, True, trial.epoch)
    if state is State.STOPPED and config.stopped == "quantile":
        return Verdict(COMPLETE, expected(trial, best, others), True, trial.epoch)
    diverged = state is State.DIVERGED and config.diverged == "infeasible"
    # Memory that was short once will be again.
    feasible = not diverged and state is not State.OOM
    return Verdict(COMPLETE, best, feasible, trial.epoch)


def expected(trial: TrialHistory, best: float, others: Collection[TrialHistory]) -> float:
    """What a stopped trial would have come to, if its rank had stayed.

    Its rank among all trials at the epoch at which it was stopped, read off as a quantile of the objectives
    with which whole trials ended.

    Args:
        trial: that was stopped.
        best: its best objective.
        others: all trials of the sweep.

    Returns:
        The quantile; `best` while too few trials have ended whole.
    """
    at = [_objective_at(other, trial.epoch) for other in others if other is not trial]
    there = [objective for objective in at if objective is not None]
    ends = [o.objective for o in others if o.state is State.COMPLETE and o.objective is not None]
    if len(ends) < ENOUGH:
        return best
    rank = sum(value < best for value in there) / max(1, len(there))
    # A trial does not grow worse by training on: its best is kept.
    return min(best, float(np.quantile(ends, rank)))


def _objective_at(trial: TrialHistory, epoch: int) -> float | None:
    """The objective that a trial had at an epoch; None if it was not there, or had none."""
    at = [record for record in trial.records if record["epoch"] <= epoch]
    if not at or trial.epoch < epoch or not at[-1]["best_epoch"]:
        return None
    objective: float = at[-1]["objective"]
    return objective
