"""Decides about a trial at each report: the guard stops what diverged, the rule what is poor."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ristune.sweep.history import History, State
from ristune.sweep.reports import sound
from ristune.sweep.rules import Rule

CONTINUE, STOP = "continue", "stop"


@dataclass(frozen=True)
class Decision:
    """What was decided about a trial.

    Attributes:
        trial: id of the trial.
        epoch: epoch of the report.
        rung: epoch of the rung; 0 for the guard, which acts at any epoch.
        bracket: of the trial.
        objective: what the trial reported; None if not finite.
        cutoff: the highest objective that goes on; None for the first at a rung.
        decision: continue or stop.
        reason: of a stop, in words.
    """

    trial: str
    epoch: int
    rung: int
    bracket: int
    objective: float | None
    cutoff: float | None
    decision: str
    reason: str = ""

    def fields(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Guard:
    """Applies a rule to sound reports, and stops trials whose reports are not; what diverged enters no rung.

    Args:
        rule: knows what the journal says already.
        record: is given every decision that the journal is to keep.
        history: of the journal: what was decided before is not decided again.
    """

    def __init__(self, rule: Rule, record: Callable[[Decision], None], history: History) -> None:
        self._rule = rule
        self._record = record
        self._stopped = {trial.id for trial in history.trials.values() if trial.stopping}

    def decide(self, trial: str, report: Mapping[str, Any]) -> str:
        """Stop or continue; a repeated, late or incomplete report changes nothing.

        Args:
            trial: id of the trial.
            report: with `epoch`, `objective`, `best_epoch`, `status` and `reason`.
        """
        # What failed may run again, and is not to be stopped then: nothing is decided about it.
        if trial in self._stopped or report.get("status") == State.FAILED:
            return STOP
        if "epoch" not in report or "objective" not in report:
            return CONTINUE
        epoch = report["epoch"]
        if not sound(report):
            reason = str(report.get("reason") or f"the objective is {report['objective']}")
            return self._note(Decision(trial, epoch, 0, 0, None, None, STOP, reason))
        objective = float(report["objective"])
        judged = self._rule.judge(trial, epoch, objective)
        if judged is None:
            return CONTINUE
        if judged.cutoff is None or objective <= judged.cutoff:
            decision, reason = CONTINUE, ""
        else:
            decision = STOP
            above = f"{objective:.6g} at epoch {epoch} is above"
            reason = f"{above} the cutoff {judged.cutoff:.6g} of rung {judged.rung}"
        made = Decision(trial, epoch, judged.rung, judged.bracket, objective, judged.cutoff, decision, reason)
        return self._note(made) if judged.noted or decision == STOP else decision

    def end(self, trial: str, report: Mapping[str, Any]) -> None:
        """Let a trial that ended soundly on a rung's epoch count there; there is nothing left to stop.

        Args:
            trial: id of the trial.
            report: its last.
        """
        if not sound(report) or trial in self._stopped:
            return
        epoch, objective = report["epoch"], float(report["objective"])
        judged = self._rule.judge(trial, epoch, objective)
        if judged is not None and judged.noted:
            self._note(
                Decision(trial, epoch, judged.rung, judged.bracket, objective, judged.cutoff, CONTINUE)
            )

    def _note(self, decision: Decision) -> str:
        if decision.decision == STOP:
            self._stopped.add(decision.trial)
        self._record(decision)
        return decision.decision
