"""What the events of a journal add up to: every trial with its values, records and end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_OF_THE_STUDY = ("known", "enqueued", "asked", "told")


class State(StrEnum):
    """Where a trial stands in a sweep; the last five are ends, and an interrupted one may go on."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETE = "complete"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    OOM = "oom"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the trial, also if the sweep is resumed."""
        return self not in (State.WAITING, State.RUNNING, State.INTERRUPTED)


@dataclass
class TrialHistory:
    """One trial.

    Attributes:
        id: its number in the sweep, four digits or more; also its folder in `trials/`.
        values: searched values by path.
        state: where it stands.
        objective: best objective of a finite validation; None while there is none.
        best_epoch: epoch of that objective, 0 if there is none.
        epoch: last epoch reported.
        records: flat records, one an epoch, in the order of their arrival.
        asked: when it was proposed, Unix seconds.
        started: when it first began to run.
        ended: when it ended.
        held: seconds for which it has held its share of the machine, up to the last interruption or end.
        failures: how often it has failed and was to run again.
        stopping: whether it was decided at a rung to stop it.
        reason: why it stopped, diverged or failed last; else empty.
    """

    id: str
    values: dict[str, Any]
    asked: float
    state: State = State.WAITING
    objective: float | None = None
    best_epoch: int = 0
    epoch: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    started: float | None = None
    ended: float | None = None
    held: float = 0.0
    failures: int = 0
    stopping: bool = False
    reason: str = ""
    _since: float | None = None

    @property
    def can_win(self) -> bool:
        """Whether it has a finite validation and did not fail; a failure would fail again."""
        return self.best_epoch > 0 and self.state is not State.FAILED

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the best epoch; empty while there is none."""
        best = [record for record in self.records if record["epoch"] == self.best_epoch]
        return {k.removeprefix("val/"): v for row in best for k, v in row.items() if k.startswith("val/")}

    @property
    def seconds(self) -> float:
        """Training and validation time of all its epochs."""
        return float(sum(record["seconds"] for record in self.records))

    def run(self, time: float) -> None:
        """It begins to run, or goes on."""
        self.state = State.RUNNING
        self.started = time if self.started is None else self.started
        self._since = time

    def rest(self, state: State, time: float) -> None:
        """It runs no more, for now or for ever."""
        self.state = state
        self.held += 0.0 if self._since is None else time - self._since
        self._since = None

    def held_until(self, now: float) -> float:
        """Seconds for which it has held its share of the machine, up to now if it runs.

        Args:
            now: Unix seconds.
        """
        return self.held if self._since is None else self.held + max(0.0, now - self._since)

    def report(self, record: dict[str, Any]) -> None:
        """Take a record; that of an epoch trained again takes the place of the first, and of all after."""
        epoch = record["epoch"]
        if epoch <= self.epoch:
            self.records = [row for row in self.records if row["epoch"] < epoch]
        self.records.append(record)
        self.epoch = epoch
        # The trainer's own account, which its checkpoint follows.
        self.best_epoch = record["best_epoch"]
        self.objective = record["objective"] if self.best_epoch else None


@dataclass
class History:
    """A sweep.

    Attributes:
        started: the fields of the event `sweep_started`, with what `sweep_resumed` says anew; empty before.
        ended: those of `sweep_ended`; empty while it runs.
        trials: by id, in the order in which they were asked.
        rungs: by a rung's epoch, the objective of each trial that the scheduler has decided on there.
        study: the events that the sampler has to do with, in order: what was known and enqueued, asked and
            told.
        warnings: texts, in order.
        seconds: for which it has run, without the time between an interruption and its going on.
    """

    started: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    trials: dict[str, TrialHistory] = field(default_factory=dict)
    rungs: dict[int, dict[str, float]] = field(default_factory=dict)
    study: list[Mapping[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _last: float | None = None

    @property
    def best(self) -> TrialHistory | None:
        """The trial with the lowest objective, the earlier one of equals."""
        able = [trial for trial in self.trials.values() if trial.can_win]
        return min(able, key=lambda trial: trial.objective or 0.0, default=None)

    @property
    def scripted(self) -> bool:
        """Whether a Tune script of somebody's runs it, which alone can go on with it."""
        return "study" in self.started.get("source", {})

    @property
    def told(self) -> int:
        """How many trials have ended, each told to the sampler."""
        return sum(trial.state.ended for trial in self.trials.values())

    def count(self, *states: State) -> int:
        """How many trials are in one of the states."""
        return sum(trial.state in states for trial in self.trials.values())

    def elapsed(self, now: float) -> float:
        """Seconds for which it has run, up to now if it runs.

        Args:
            now: Unix seconds.
        """
        return self.seconds if self._last is None or self.ended else self.seconds + max(0.0, now - self._last)

    def rest(self, time: float) -> None:
        """Nothing runs any more: a driver that was killed has not said so of its trials.

        Args:
            time: since when, Unix seconds.
        """
        for trial in self.trials.values():
            if trial.state is State.RUNNING:
                trial.rest(State.INTERRUPTED, time)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take one event; an event of a trial that was never asked is a damaged journal.

        Raises:
            KeyError: naming the unknown trial.
        """
        kind = event["event"]
        if kind in _OF_THE_STUDY:
            self.study.append(event)
        if kind == "sweep_started":
            self.started = dict(event)
        elif kind == "sweep_resumed":
            self._resume(event)
        elif kind == "sweep_ended":
            self.ended = dict(event)
        elif kind == "warned":
            self.warnings.append(event["text"])
        elif kind == "asked":
            self.trials[event["trial"]] = TrialHistory(event["trial"], event["values"], event["time"])
        elif kind == "decided":
            self._decide(event)
        elif kind not in ("enqueued", "known"):
            _apply(self.trials[event["trial"]], kind, event)
        before, self._last = self._last, max(event["time"], self._last or 0.0)
        self.seconds += 0.0 if before is None else self._last - before

    def _resume(self, event: Mapping[str, Any]) -> None:
        self.rest(self._last or event["time"])
        self.started |= {k: v for k, v in event.items() if k not in ("event", "time", "command")}
        self.ended = {}
        self._last = None

    def _decide(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        # The guard's stop has rung 0; such a trial has ended by itself.
        if event["rung"]:
            trial.stopping = event["decision"] == "stop"
            self.rungs.setdefault(event["rung"], {})[trial.id] = event["objective"]


def _apply(trial: TrialHistory, kind: str, event: Mapping[str, Any]) -> None:
    if kind == "started":
        trial.run(event["time"])
    elif kind == "reported":
        trial.report(event["record"])
    elif kind == "stopped":
        trial.reason = event["reason"]
    elif kind == "paused":
        trial.rest(State.INTERRUPTED, event["time"])
    elif kind == "retried":
        trial.rest(State.WAITING, event["time"])
        trial.failures += event["counted"]
        trial.reason = event["reason"]
    elif kind == "told":
        trial.rest(State(event["state"]), event["time"])
        trial.ended = event["time"]
        trial.reason = event["reason"] or trial.reason
