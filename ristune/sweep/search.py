"""Ray's searcher on Optuna's ask and tell: every trial is told exactly once, with its true state."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from ristune.sweep.history import State
from ristune.sweep.journal import Event
from ristune.sweep.space import Space, suggest

# A constraint above 0 makes a trial infeasible: TPE then ranks it behind every feasible one.
CONSTRAINT = "finite"
_ENDS = {"running": State.STOPPED, "complete": State.COMPLETE, "diverged": State.DIVERGED, "oom": State.OOM}


class StudySearch(Searcher):
    """Asks Optuna for each trial and tells it how the trial ended.

    Args:
        space: what is searched.
        study: a new Optuna study.
        limit: trials in total.
        ceiling: what a trial without any finite validation is told with; finite.
        note: is given the events `asked` and `told` with their fields.
    """

    def __init__(
        self, space: Space, study: optuna.Study, limit: int, ceiling: float, note: Callable[..., object]
    ) -> None:
        super().__init__(metric="objective", mode="min")
        self._space = space
        self._study = study
        self._limit = limit
        self._ceiling = ceiling
        self._note = note
        self._asked: dict[str, dict[str, Any]] = {}
        self._open: dict[str, optuna.Trial] = {}
        self._best: dict[str, float] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Values for a new trial; FINISHED once the limit is reached.

        Args:
            trial_id: Ray's name of the trial; asked again, it gets the same values.

        Returns:
            `{"trial": id, "values": {path: value}}`.
        """
        if trial_id in self._asked:
            return self._asked[trial_id]
        if len(self._asked) >= self._limit:
            finished: str = Searcher.FINISHED
            return finished
        trial = self._study.ask()
        values = suggest(self._space, trial)
        request = {"trial": f"{trial.number:04d}", "values": values}
        self._open[trial_id] = trial
        self._asked[trial_id] = request
        self._note(Event.ASKED, **request)
        return request

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Keep the best objective of a finite validation; late, repeated and empty reports do no harm."""
        value = _finite_objective(result)
        if value is not None and trial_id in self._open:
            self._best[trial_id] = min(value, self._best.get(trial_id, math.inf))

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended, once: later calls for the same trial change nothing.

        Args:
            trial_id: Ray's name of the trial.
            result: its last report, flat; None if it never reported.
            error: whether its actor was lost; an exception that the actor outlived is a status in `result`.
        """
        if trial_id not in self._open:
            return
        if error:
            self._tell_failed(trial_id, State.FAILED, "")
        elif result and result.get("status") == State.FAILED:
            self._tell_failed(trial_id, State.FAILED, str(result.get("reason", "")))
        elif not result or result.get("status") not in _ENDS:
            self._tell_failed(trial_id, State.INTERRUPTED, "it ended before its first report")
        else:
            self.on_trial_result(trial_id, result)
            self._tell_finished(trial_id, _ENDS[result["status"]], str(result.get("reason", "")))

    def close(self, reason: str) -> None:
        """Tell Optuna that every trial still open was interrupted: a RUNNING one is a phantom for ever."""
        for trial_id in list(self._open):
            self._tell_failed(trial_id, State.INTERRUPTED, reason)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the journal is the truth, Ray's snapshots are not used."""

    def _tell_finished(self, trial_id: str, state: State, reason: str) -> None:
        trial = self._open.pop(trial_id)
        best = self._best.pop(trial_id, None)
        trial.set_constraint(CONSTRAINT, 1.0 if best is None else 0.0)
        value = self._ceiling if best is None else best
        # A stopped trial is told COMPLETE too: TPE ranks any COMPLETE ahead of every PRUNED one.
        self._study.tell(trial, value, state=TrialState.COMPLETE)
        self._told(trial_id, state, value, best is not None, reason)

    def _tell_failed(self, trial_id: str, state: State, reason: str) -> None:
        self._study.tell(self._open.pop(trial_id), state=TrialState.FAIL)
        self._told(trial_id, state, self._best.pop(trial_id, None), False, reason)

    def _told(
        self, trial_id: str, state: State, objective: float | None, feasible: bool, reason: str
    ) -> None:
        self._note(
            Event.TOLD,
            trial=self._asked[trial_id]["trial"],
            state=state,
            objective=objective,
            feasible=feasible,
            reason=reason,
        )


def _finite_objective(result: Mapping[str, Any]) -> float | None:
    """The objective of a report that has had a finite validation, else None."""
    value = result.get("objective")
    if not result.get("best_epoch") or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
