"""A record: what a trial reports once an epoch."""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from ristune.training.diagnostics import Diagnosis

# Fields that a clock or an allocator decides: all others are the same when a training is repeated.
CLOCKS = ("seconds", "waiting", "samples_per_second", "peak_memory")


class Status(StrEnum):
    """Where a trial stands; a trial ends with one of the last five."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    OOM = "oom"
    FAILED = "failed"


@dataclass(frozen=True)
class Record:
    """One epoch of one trial.

    Attributes:
        epoch: 1 for the first.
        batches: batches seen since the start.
        windows: optimizer windows since the start, of `accumulate` batches each; always `steps + skipped`.
        steps: optimizer steps taken since the start.
        skipped: windows skipped since the start, for a non-finite loss or gradient.
        cause: what was not finite in the epoch's last skipped window, by name; empty if none was.
        lr: learning rate at the end of the epoch.
        train: sample-weighted mean over every batch of the epoch of `loss` and of each loss term; a
            batch whose loss was not finite makes the mean not finite, so that it is seen.
        val: sample-weighted mean of each validation metric.
        value: this epoch's value of the objective's metric; None if not finite.
        objective: `min(best value so far, ceiling)`: always present, always finite.
        best_epoch: epoch of the best value, 0 if there is none yet.
        grad_norm: mean over the epoch's taken steps of the global gradient norm before clipping; NaN if
            none was taken.
        clipped: share of the epoch's taken steps whose gradient was clipped.
        inputs: by column, batches of the epoch in which NaN or infinity was found; not all are looked at.
        seconds: wall time of the epoch, training and validation.
        waiting: seconds of it that training waited for data.
        samples_per_second: training samples over training time.
        peak_memory: bytes on the device; 0 on the CPU.
        status: running, complete, diverged or oom.
        reason: why a trial ended otherwise than complete, else empty.
        diagnosis: by group of parameters; empty unless `training.diagnostics`.
    """

    epoch: int
    batches: int
    windows: int
    steps: int
    skipped: int
    lr: float
    objective: float
    value: float | None
    best_epoch: int
    grad_norm: float
    clipped: float
    seconds: float
    waiting: float
    samples_per_second: float
    peak_memory: int
    status: Status
    reason: str = ""
    cause: str = ""
    train: dict[str, float] = field(default_factory=dict)
    val: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    diagnosis: Diagnosis = field(default_factory=Diagnosis)

    @property
    def improved(self) -> bool:
        """Whether this epoch is the best so far."""
        return self.best_epoch == self.epoch

    def flat(self) -> dict[str, Any]:
        """One level of plain values, `GROUP/NAME` for what there is several of."""
        row = asdict(self)
        row["status"] = str(self.status)
        diagnosis = row.pop("diagnosis")
        dead = diagnosis.pop("dead")
        for group in ("train", "val", "inputs"):
            diagnosis[group] = row.pop(group)
        for group, values in diagnosis.items():
            row.update({f"{group}/{name}": value for name, value in values.items()})
        return {**row, "dead": ", ".join(dead)}


@dataclass(frozen=True)
class Before:
    """What a trial has done on smaller shares of the data: it counts on from there.

    Attributes:
        epochs: trained on them.
        objective: reported at their end; it stands until this share has a finite validation.
        best_epoch: of that objective, 0 if none of them had a finite validation.
    """

    epochs: int = 0
    objective: float = 0.0
    best_epoch: int = 0

    def counted(self, record: Record) -> Record:
        """A record of this share as one of the whole trial."""
        record = replace(record, epoch=self.epochs + record.epoch)
        if record.best_epoch:
            return replace(record, best_epoch=self.epochs + record.best_epoch)
        if self.best_epoch:
            return replace(record, objective=self.objective, best_epoch=self.best_epoch)
        return record


NOTHING_BEFORE = Before()
