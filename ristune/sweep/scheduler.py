"""ASHA with a guard: a trial that diverges stops at once, and its diverged epoch enters no rung."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from ristune.sweep.history import History

TIME, METRIC = "epoch", "objective"
CONTINUE, STOP = "continue", "stop"


@dataclass(frozen=True)
class Decision:
    """What was decided about a trial at a rung.

    Attributes:
        trial: id of the trial.
        epoch: epoch of the report.
        rung: epoch of the rung; 0 for the guard, which acts at any epoch.
        objective: what the trial reported; None if not finite.
        cutoff: the highest objective that goes on; None for the first at a rung.
        decision: continue or stop.
        reason: of a stop, in words.
    """

    trial: str
    epoch: int
    rung: int
    objective: float | None
    cutoff: float | None
    decision: str
    reason: str = ""


class Rungs:
    """One bracket of successive halving: who reported what at each rung.

    Args:
        grace: epoch of the first rung.
        reduction: one in so many goes on; rungs lie at `grace * reduction**k`.
        epochs: of a whole trial; no rung lies there, for there is nothing left to stop.

    Attributes:
        recorded: objective by trial, for each rung's epoch, ascending.
    """

    def __init__(self, grace: int, reduction: int, epochs: int) -> None:
        self.reduction = reduction
        self.recorded: dict[int, dict[str, float]] = {}
        rung = grace
        while rung < epochs:
            self.recorded[rung] = {}
            rung *= reduction

    def enter(self, trial: str, epoch: int, objective: float) -> tuple[int, float | None] | None:
        """Record a finite objective at the highest rung reached.

        Returns:
            The rung and the cutoff among those who were there before; None where the trial is below the
            first rung or has been at this one.
        """
        reached = [rung for rung in self.recorded if rung <= epoch]
        if not reached or trial in self.recorded[reached[-1]]:
            return None
        others = self.recorded[reached[-1]]
        cutoff = float(np.percentile(list(others.values()), 100 / self.reduction)) if others else None
        others[trial] = objective
        return reached[-1], cutoff


class GuardedASHA(AsyncHyperBandScheduler):
    """Asynchronous successive halving on `epoch` and `objective`, lower being better, in one bracket.

    Ray's own brackets are left empty: they are drawn from NumPy's global generator, take in NaN and
    infinities, and cannot be rebuilt from a journal. With one bracket nothing is drawn at all.

    Args:
        epochs: of a whole trial.
        grace: no trial that trains soundly is stopped before so many epochs.
        reduction: one in so many goes on at each rung.
        record: is given every decision.
        history: of the journal: what was decided before is not decided again.
    """

    def __init__(
        self,
        epochs: int,
        grace: int,
        reduction: int,
        record: Callable[[Decision], None],
        history: History,
    ) -> None:
        super().__init__(
            time_attr=TIME,
            metric=METRIC,
            mode="min",
            max_t=epochs,
            grace_period=grace,
            reduction_factor=reduction,
        )
        self.rungs = Rungs(grace, reduction, epochs)
        for rung, objectives in history.rungs.items():
            self.rungs.recorded[rung].update(objectives)
        self._record = record
        self._stopped = {trial.id for trial in history.trials.values() if trial.stopping}

    def on_trial_add(self, tune_controller: object, trial: Trial) -> None:
        """Take note of nothing: a trial joins the one bracket with its first report."""

    def on_trial_remove(self, tune_controller: object, trial: Trial) -> None:
        """Forget nothing: a trial that never ran is in no rung."""

    def on_trial_error(self, tune_controller: object, trial: Trial) -> None:
        """Keep what a failed trial reported while it was sound."""

    def on_trial_result(self, tune_controller: object, trial: Trial, result: Mapping[str, Any]) -> str:
        """Stop or continue; a repeated, late or incomplete report changes no rung.

        Args:
            tune_controller: Ray's, unused.
            trial: Ray's; its config names our trial.
            result: the flat report.
        """
        decision = self._decide(trial.config["trial"], result)
        action: str = TrialScheduler.STOP if decision == STOP else TrialScheduler.CONTINUE
        return action

    def on_trial_complete(self, tune_controller: object, trial: Trial, result: Mapping[str, Any]) -> None:
        """Let a trial that ended soundly on a rung's epoch count there."""
        name = trial.config["trial"]
        if not _sound(result) or name in self._stopped:
            return
        epoch, objective = result[TIME], float(result[METRIC])
        entered = self.rungs.enter(name, epoch, objective)
        if entered is not None:
            # There is nothing left to stop.
            self._note(Decision(name, epoch, entered[0], objective, entered[1], CONTINUE))

    def debug_string(self) -> str:
        """Trials at each rung."""
        return "GuardedASHA: " + ", ".join(f"epoch {e}: {len(r)}" for e, r in self.rungs.recorded.items())

    def _decide(self, trial: str, result: Mapping[str, Any]) -> str:
        if trial in self._stopped:
            return STOP
        if TIME not in result or METRIC not in result:
            return CONTINUE
        epoch = result[TIME]
        if not _sound(result):
            reason = str(result.get("reason") or f"the objective is {result[METRIC]}")
            return self._note(Decision(trial, epoch, 0, None, None, STOP, reason))
        return self._enter(trial, epoch, float(result[METRIC]))

    def _enter(self, trial: str, epoch: int, objective: float) -> str:
        entered = self.rungs.enter(trial, epoch, objective)
        if entered is None:
            return CONTINUE
        rung, cutoff = entered
        if cutoff is None or objective <= cutoff:
            return self._note(Decision(trial, epoch, rung, objective, cutoff, CONTINUE))
        reason = f"{objective:.6g} at epoch {epoch} is above the cutoff {cutoff:.6g} of rung {rung}"
        return self._note(Decision(trial, epoch, rung, objective, cutoff, STOP, reason))

    def _note(self, decision: Decision) -> str:
        if decision.decision == STOP:
            self._stopped.add(decision.trial)
        self._record(decision)
        return decision.decision


def fields(decision: Decision) -> dict[str, Any]:
    """A decision as plain values."""
    return asdict(decision)


def _sound(result: Mapping[str, Any]) -> bool:
    """Whether a report may enter a rung: not diverged, with a finite objective from a finite validation."""
    value = result.get(METRIC)
    return (
        TIME in result
        and isinstance(value, int | float)
        and math.isfinite(value)
        and result.get("status") not in ("diverged", "oom", "failed")
        and bool(result.get("best_epoch", 1))
    )
