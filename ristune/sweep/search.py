"""Ray's searcher on Optuna's ask and tell: every trial is told exactly once, with its true state."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from ristune.sweep.history import History, State, TrialHistory
from ristune.sweep.journal import Event
from ristune.sweep.sampler import CONSTRAINT, ask, recall
from ristune.sweep.space import Scalar, Space
from ristune.sweep_config import SweepConfig

_ENDS = {"running": State.STOPPED, "complete": State.COMPLETE, "diverged": State.DIVERGED, "oom": State.OOM}
# Seconds before a failed trial runs again, doubled with each of its failures.
BACKOFF = 1.0


@dataclass
class _Open:
    """A trial that has not been told.

    Attributes:
        trial: Optuna's.
        values: searched values by path.
        best: best objective of a finite validation.
        failures: that count against it.
        reason: of the last failure.
        ray: Ray's name of the trial while it is in Ray's hands, else empty.
        due: when it may run again, by the monotonic clock.
    """

    trial: optuna.Trial
    values: Mapping[str, Scalar]
    best: float | None = None
    failures: int = 0
    reason: str = ""
    ray: str = ""
    due: float = 0.0


class StudySearch(Searcher):
    """Asks Optuna for each trial and tells it how the trial ended; hands out again what was lost on the way.

    What a journal says already is taken over: a trial that ended or was stopped, but was not told, is told
    now; one that has not ended is handed out first.

    Args:
        space: what is searched.
        study: an empty Optuna study.
        config: sampler, seed and retries.
        limit: trials in total.
        ceiling: what a trial without any finite validation is told with; finite.
        note: is given the events `asked`, `retried`, `paused` and `told` with their fields.
        history: of the journal.
    """

    def __init__(
        self,
        space: Space,
        study: optuna.Study,
        config: SweepConfig,
        limit: int,
        ceiling: float,
        note: Callable[..., object],
        history: History,
    ) -> None:
        super().__init__(metric="objective", mode="min")
        self._space = space
        self._study = study
        self._config = config
        self._limit = limit
        self._ceiling = ceiling
        self._note = note
        self._open: dict[str, _Open] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        recall(study, space, history.trials.values(), ceiling)
        self._asked = len(history.trials)
        for number, trial in enumerate(list(history.trials.values())):
            if not trial.state.ended:
                self._take_up(number, trial)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Values for a trial that Ray may start.

        Args:
            trial_id: Ray's name of the trial; asked again, it gets the same values.

        Returns:
            `{"trial": id, "values": {path: value}}`; FINISHED once all are told; None while there is nothing
            to start, but a trial that runs may have to run again.
        """
        if trial_id in self._requests:
            return self._requests[trial_id]
        waiting = {name: trial for name, trial in self._open.items() if not trial.ray}
        ready = [name for name, trial in waiting.items() if trial.due <= time.monotonic()]
        if ready:
            name = ready[0]
        elif self._asked < self._limit:
            name = self._ask()
        elif self._open:
            return None
        else:
            finished: str = Searcher.FINISHED
            return finished
        self._open[name].ray = trial_id
        self._requests[trial_id] = {"trial": name, "values": self._open[name].values}
        return self._requests[trial_id]

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Keep the best objective of a finite validation; late, repeated and empty reports do no harm."""
        trial, value = self._in_hands(trial_id), _finite_objective(result)
        if trial is not None and value is not None:
            trial.best = value if trial.best is None else min(value, trial.best)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended, once: later calls for the same trial change nothing.

        Args:
            trial_id: Ray's name of the trial.
            result: its last report, flat; None if it never reported.
            error: whether its actor was lost: `lost` will say how. An exception that the actor outlived is a
                status in `result`.
        """
        trial = self._in_hands(trial_id)
        if trial is None or error:
            return
        name = self._requests[trial_id]["trial"]
        if result and result.get("status") == State.FAILED:
            certain = bool(result.get("certain")) or trial.reason == result.get("reason")
            self._failed(name, str(result.get("reason", "")), certain)
        elif not result or result.get("status") not in _ENDS:
            self._release(name, "it ended before its first report")
        else:
            self.on_trial_result(trial_id, result)
            self._tell(name, _ENDS[result["status"]], str(result.get("reason", "")))

    def lost(self, name: str, state: State, reason: str, raised: bool, blameless: bool) -> None:
        """The actor of a trial was lost.

        Args:
            name: of the trial.
            state: failed, or oom.
            reason: in a line.
            raised: whether it raised an exception, as on a GPU, and was not killed.
            blameless: whether its machine was lost with it: that says nothing of the trial.
        """
        trial = self._open.get(name)
        if trial is None:
            return
        if state is State.OOM:
            self._tell(name, state, reason)
        elif blameless:
            self._retry(name, reason, counted=False)
        else:
            refused = "InputError" in reason.partition(":")[0]
            self._failed(name, reason, certain=raised and (refused or reason == trial.reason))

    def close(self, reason: str) -> None:
        """Note that the trials that have not ended are interrupted; the sweep may be resumed."""
        for name in list(self._open):
            self._release(name, reason)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the journal is the truth, Ray's snapshots are not used."""

    def _take_up(self, number: int, known: TrialHistory) -> None:
        trial = optuna.Trial(self._study, self._study.trials[number]._trial_id)
        self._open[known.id] = _Open(
            trial, known.values, known.objective, known.failures, known.reason if known.failures else ""
        )
        status = known.records[-1]["status"] if known.records else "running"
        if status != "running":
            self._tell(known.id, _ENDS[status], str(known.records[-1].get("reason", "")))
        elif known.stopping:
            self._tell(known.id, State.STOPPED, known.reason)

    def _ask(self) -> str:
        trial, values = ask(self._study, self._config, self._space, self._asked)
        name = f"{self._asked:04d}"
        # Noted first: one that an interrupt leaves in the journal alone is waiting, one elsewhere unknown.
        self._note(Event.ASKED, trial=name, values=values)
        self._open[name] = _Open(trial, values)
        self._asked += 1
        return name

    def _in_hands(self, trial_id: str) -> _Open | None:
        """The trial that Ray knows by a name, if it has it still."""
        request = self._requests.get(trial_id)
        trial = self._open.get(request["trial"]) if request else None
        return trial if trial is not None and trial.ray == trial_id else None

    def _failed(self, name: str, reason: str, certain: bool) -> None:
        """Have it run again, unless it would only fail again."""
        if certain or self._open[name].failures >= self._config.max_retries:
            self._study.tell(self._open[name].trial, state=TrialState.FAIL)
            self._told(name, State.FAILED, feasible=False, objective=self._open[name].best, reason=reason)
        else:
            self._retry(name, reason, counted=True)

    def _retry(self, name: str, reason: str, counted: bool) -> None:
        trial = self._open[name]
        trial.ray = ""
        if counted:
            trial.reason = reason
            trial.due = time.monotonic() + BACKOFF * 2**trial.failures
            trial.failures += 1
        self._note(Event.RETRIED, trial=name, reason=reason, counted=counted)

    def _release(self, name: str, reason: str) -> None:
        del self._open[name]
        self._note(Event.PAUSED, trial=name, reason=reason)

    def _tell(self, name: str, state: State, reason: str) -> None:
        trial, best = self._open[name].trial, self._open[name].best
        trial.set_constraint(CONSTRAINT, 1.0 if best is None else 0.0)
        value = self._ceiling if best is None else best
        # A stopped trial is told COMPLETE too: TPE ranks any COMPLETE ahead of every PRUNED one.
        self._study.tell(trial, value, state=TrialState.COMPLETE)
        self._told(name, state, feasible=best is not None, objective=value, reason=reason)

    def _told(self, name: str, state: State, feasible: bool, objective: float | None, reason: str) -> None:
        del self._open[name]
        self._note(Event.TOLD, trial=name, state=state, objective=objective, feasible=feasible, reason=reason)


def _finite_objective(result: Mapping[str, Any]) -> float | None:
    """The objective of a report that has had a finite validation, else None."""
    value = result.get("objective")
    if not result.get("best_epoch") or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
