"""What the events of a journal add up to: every trial with its values, records and end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a trial stands in a sweep; the last six are ends."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    OOM = "oom"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the trial in this sweep."""
        return self not in (State.WAITING, State.RUNNING)


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
        records: flat records, in the order of their arrival.
        asked: when it was proposed, Unix seconds.
        started: when it began to run.
        ended: when it ended.
        reason: why it stopped, diverged or failed; else empty.
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
    reason: str = ""

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
    def held(self) -> float:
        """Seconds from its start to its end for which it held its share of the machine; 0 until it ends."""
        return self.ended - self.started if self.started is not None and self.ended is not None else 0.0

    @property
    def seconds(self) -> float:
        """Training and validation time of all its epochs."""
        return float(sum(record["seconds"] for record in self.records))


@dataclass
class History:
    """A sweep.

    Attributes:
        started: the fields of the event `sweep_started`; empty before it.
        ended: those of `sweep_ended`.
        trials: by id, in the order in which they were asked.
        warnings: texts, in order.
    """

    started: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    trials: dict[str, TrialHistory] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def best(self) -> TrialHistory | None:
        """The trial with the lowest objective, the earlier one of equals."""
        able = [trial for trial in self.trials.values() if trial.can_win]
        return min(able, key=lambda trial: trial.objective or 0.0, default=None)

    def count(self, *states: State) -> int:
        """How many trials are in one of the states."""
        return sum(trial.state in states for trial in self.trials.values())

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take one event; an event of a trial that was never asked is a damaged journal.

        Raises:
            KeyError: naming the unknown trial.
        """
        kind = event["event"]
        if kind == "sweep_started":
            self.started = dict(event)
        elif kind == "sweep_ended":
            self.ended = dict(event)
        elif kind == "warned":
            self.warnings.append(event["text"])
        elif kind == "asked":
            self.trials[event["trial"]] = TrialHistory(event["trial"], event["values"], event["time"])
        else:
            _apply(self.trials[event["trial"]], kind, event)


def _apply(trial: TrialHistory, kind: str, event: Mapping[str, Any]) -> None:
    if kind == "started":
        trial.state = State.RUNNING
        trial.started = event["time"]
    elif kind == "reported":
        record = event["record"]
        trial.records.append(record)
        trial.epoch = max(trial.epoch, record["epoch"])
        # The trainer's own account, which its checkpoint follows; a late report never takes it back.
        if record["best_epoch"] > trial.best_epoch:
            trial.objective = record["objective"]
            trial.best_epoch = record["best_epoch"]
    elif kind == "stopped":
        trial.reason = event["reason"]
    elif kind in ("told", "failed"):
        trial.state = State(event["state"])
        trial.ended = event["time"]
        trial.reason = event["reason"] or trial.reason
