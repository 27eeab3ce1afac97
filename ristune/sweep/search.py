"""Ray's searcher: every trial is told exactly once, with its true state, and what was lost runs again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from ray.tune.search import Searcher

from ristune.sweep.causes import again, diagnose
from ristune.sweep.engine import not_restored
from ristune.sweep.guard import STOP, Decision
from ristune.sweep.history import State, TrialHistory
from ristune.sweep.journal import Event, Journal
from ristune.sweep.proposing import Proposer
from ristune.sweep.reports import own_report
from ristune.sweep.space import Scalar, Space
from ristune.sweep.telling import verdict
from ristune.sweep_config import SweepConfig

_ENDS = {"running": State.STOPPED, "complete": State.COMPLETE, "diverged": State.DIVERGED, "oom": State.OOM}
# Seconds before a lost trial runs again, doubled each time, up to so many times.
BACKOFF, LONGEST = 1.0, 6


@dataclass
class _Open:
    """A trial that has not been told.

    Attributes:
        values: searched values by path.
        failures: that count against it.
        reason: of the last failure.
        losses: how often it has lost its actor, counted or not.
        ray: Ray's name of the trial while it is in Ray's hands, else empty.
        due: when it may run again, by the monotonic clock.
        noted: the last epoch that was noted of it while it is in Ray's hands.
    """

    values: Mapping[str, Scalar]
    failures: int = 0
    reason: str = ""
    losses: int = 0
    ray: str = ""
    due: float = 0.0
    noted: int = 0


class JournaledSearch(Searcher):
    """Hands out trials and notes in a journal all that becomes of them; the sampler is told of each once.

    What the journal says already is taken over: a trial that ended or was stopped, but was not told, is told
    now; one that has not ended is handed out first.

    Args:
        space: what is searched.
        journal: of the sweep.
        settings: of sampler and retries, and of the scheduler that goes with it.
        trials: in total.
        ceiling: what a trial without any finite validation is told with; finite.

    Attributes:
        journal: of the sweep.
        settings: as given.
    """

    def __init__(
        self, space: Space, journal: Journal, settings: SweepConfig, trials: int, ceiling: float
    ) -> None:
        # Ray is told of no metric: one report without it would end the sweep.
        super().__init__(metric=None, mode=None)
        self.journal = journal
        self.settings = settings
        self._limit = trials
        self._ceiling = ceiling
        self._proposer = Proposer(space, settings)
        self._open: dict[str, _Open] = {}
        self._names: dict[str, str] = {}
        self._decisions: dict[str, list[Decision]] = {}
        self._proposer.recall(journal.history)
        for trial in list(journal.history.trials.values()):
            if not trial.state.ended:
                self._take_up(trial)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """Leave nothing in Ray's snapshots: a searcher is made of its journal."""
        return (not_restored, ())

    @property
    def study(self) -> optuna.Study:
        """Optuna's, of which it shows the window that its sampler sees."""
        return self._proposer.study

    @property
    def done(self) -> bool:
        """Whether all trials have been told."""
        return not self._open and len(self.journal.history.trials) >= self._limit

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Take nothing of the space that Ray has: the searcher has its own."""
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Values for a trial that Ray may start.

        Args:
            trial_id: Ray's name of it; asked again, it gets the same values.

        Returns:
            The trial's configuration; FINISHED once all are told; None while a trial may have to run again.
        """
        if trial_id in self._names:
            name = self._names[trial_id]
            return self.request(name, self.journal.history.trials[name].values)
        now = time.monotonic()
        ready = (name for name, trial in self._open.items() if not trial.ray and trial.due <= now)
        name = next(ready, "")
        if not name and len(self.journal.history.trials) < self._limit:
            name = self._ask()
        if not name:
            finished: str = Searcher.FINISHED
            return None if self._open else finished
        trial = self._open[name]
        trial.ray, trial.noted = trial_id, 0
        self._names[trial_id] = name
        return self.request(name, trial.values)

    def request(self, name: str, values: Mapping[str, Scalar]) -> dict[str, Any]:
        """What a trial is started with.

        Args:
            name: of the trial.
            values: searched values by path.
        """
        return {"trial": name, "values": values, "epoch": self.journal.history.trials[name].epoch}

    def read(self, name: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """A flat result as a report: `epoch`, `objective`, `best_epoch`, `status`, `reason`, `record`."""
        return own_report(result)

    def name_of(self, trial_id: str) -> str | None:
        """The name of the trial that Ray has in hands; None if it has it no more, or never had."""
        name = self._names.get(trial_id)
        trial = self._open.get(name) if name is not None else None
        return name if trial is not None and trial.ray == trial_id else None

    def decided(self, decision: Decision) -> None:
        """Keep a decision until its report is noted: a journal that ends between the two has neither."""
        self._decisions.setdefault(decision.trial, []).append(decision)

    def started(self, trial_id: str) -> None:
        """Note that a trial has begun to run."""
        name = self.name_of(trial_id)
        if name is not None:
            self.journal.append(Event.STARTED, trial=name)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Note a report; late and repeated ones do no harm."""
        name = self.name_of(trial_id)
        if name is not None:
            self._note(name, self.read(name, result))

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the sampler how a trial ended, once: later calls for the same trial change nothing.

        Args:
            trial_id: Ray's name of the trial.
            result: its last report, flat; None if it never reported.
            error: whether its actor was lost; an exception that it outlived is a status in `result`.
        """
        if error:
            self.on_trial_error(trial_id, "")
        name = self.name_of(trial_id)
        if name is None:
            return
        report = self.read(name, result) if result else {}
        if report.get("status") == State.FAILED:
            self._note(name, report)
            reason = str(report.get("reason", ""))
            self._failed(name, reason, bool(report.get("certain")) or again(reason, self._open[name].reason))
        elif report.get("status") not in _ENDS:
            self._release(name, "it ended before its first report")
        else:
            self._note(name, report)
            self._tell(name, self.end_of(name, report), str(report.get("reason", "")))

    def end_of(self, name: str, report: Mapping[str, Any]) -> State:
        """The state of a trial whose last report this is; one that says that it runs on was stopped."""
        return _ENDS[report["status"]]

    def on_trial_error(self, trial_id: str, text: str) -> None:
        """The actor of a trial was lost: have the trial run again, or tell how it ended.

        Args:
            trial_id: Ray's name of the trial.
            text: Ray's account: a traceback of the worker, or of the actor's death.
        """
        name = self.name_of(trial_id)
        if name is None:
            return
        loss = diagnose(text)
        self.journal.append(Event.FAILED, trial=name, state=loss.state, reason=loss.reason, traceback=text)
        if loss.state is State.OOM:
            self._tell(name, loss.state, loss.reason)
        elif loss.blameless:
            self._retry(name, loss.reason, counted=False)
        else:
            self._failed(name, loss.reason, loss.certain(self._open[name].reason))

    def close(self, reason: str) -> None:
        """Note that the trials that have not ended are interrupted."""
        for name in list(self._open):
            self._release(name, reason)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the journal is the truth, Ray's snapshots are not used."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: what there is was taken over from the journal."""

    def _take_up(self, known: TrialHistory) -> None:
        reason = known.reason if known.failures else ""
        self._open[known.id] = _Open(known.values, known.failures, reason, known.failures, noted=known.epoch)
        status = known.records[-1]["status"] if known.records else "running"
        if status != "running":
            self._tell(known.id, _ENDS[status], str(known.records[-1].get("reason", "")))
        elif known.stopping:
            self._tell(known.id, State.STOPPED, known.reason)

    def _ask(self) -> str:
        """A new trial; empty if the space has no more."""
        name = f"{len(self.journal.history.trials):04d}"
        proposal = self._proposer.propose(name)
        if proposal is None:
            fewer = f"there are {int(name)} trials, not {self._limit}"
            text = f"everything that the space allows has been tried: {fewer}"
            self.journal.append(Event.WARNED, trial=None, text=text)
            self._limit = int(name)
            return ""
        # Noted first: one that an interrupt leaves in the journal alone is waiting, one elsewhere unknown.
        self.journal.append(Event.ASKED, trial=name, values=proposal.values, source=proposal.source)
        self._open[name] = _Open(proposal.values)
        return name

    def _note(self, name: str, report: Mapping[str, Any]) -> None:
        """Note a report that was not noted yet, and what was decided about it."""
        trial, epoch = self._open[name], report.get("epoch", 0)
        events: list[tuple[Event, Mapping[str, Any]]] = []
        if report.get("record") is not None and epoch > trial.noted:
            trial.noted = epoch
            events.append((Event.REPORTED, {"trial": name, "record": report["record"]}))
        for text in report.get("warnings", ()):
            events.append((Event.WARNED, {"trial": name, "text": text}))
        for decision in self._decisions.pop(name, ()):
            events.append((Event.DECIDED, decision.fields()))
            if decision.decision == STOP:
                events.append((Event.STOPPED, {"trial": decision.trial, "reason": decision.reason}))
        if events:
            # At once: the rungs are made of decisions, and are to be those of the records.
            self.journal.extend(events)

    def _failed(self, name: str, reason: str, certain: bool) -> None:
        """Have it run again, unless it would only fail again."""
        if certain or self._open[name].failures >= self.settings.max_retries:
            self._tell(name, State.FAILED, reason)
        else:
            self._retry(name, reason, counted=True)

    def _retry(self, name: str, reason: str, counted: bool) -> None:
        trial = self._open[name]
        trial.ray = ""
        # A worn worker or a lost machine is no reason to wait, the first time.
        if counted or trial.losses:
            trial.due = time.monotonic() + BACKOFF * 2 ** min(trial.losses, LONGEST)
        trial.losses += 1
        self._decisions.pop(name, None)
        if counted:
            trial.reason = reason
            trial.failures += 1
        self.journal.append(Event.RETRIED, trial=name, reason=reason, counted=counted)

    def _release(self, name: str, reason: str) -> None:
        del self._open[name]
        self.journal.append(Event.PAUSED, trial=name, reason=reason)

    def _tell(self, name: str, state: State, reason: str) -> None:
        del self._open[name]
        trials = self.journal.history.trials
        told = verdict(state, trials[name], trials.values(), self.settings, self._ceiling)
        self._proposer.tell(name, told)
        best = trials[name].objective
        objective = self._ceiling if best is None and state is not State.FAILED else best
        self.journal.append(
            Event.TOLD, trial=name, state=state, objective=objective, reason=reason, **told.fields()
        )
