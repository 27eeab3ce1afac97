"""A record: what a trial reports once an epoch."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where a trial stands; a trial ends with one of the last four."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    FAILED = "failed"


@dataclass(frozen=True)
class Record:
    """One epoch of one trial.

    Attributes:
        epoch: 1 for the first.
        batches: batches seen since the start; always `steps + skipped`.
        steps: optimizer steps taken since the start.
        skipped: windows skipped since the start, for a non-finite loss or gradient.
        lr: learning rate at the end of the epoch.
        train: sample-weighted mean over every batch of the epoch of `loss` and of each loss term; a
            batch whose loss was not finite makes the mean not finite, so that it is seen.
        val: sample-weighted mean of each validation metric.
        value: this epoch's value of the objective's metric; None if not finite.
        objective: `min(best value so far, ceiling)`: always present, always finite.
        best_epoch: epoch of the best value, 0 if there is none yet.
        grad_norm: mean over the epoch's taken steps of the global gradient norm before clipping.
        seconds: wall time of the epoch, training and validation.
        samples_per_second: training samples over training time.
        peak_memory: bytes on the device; 0 on the CPU.
        status: running, complete or diverged.
        reason: why a trial diverged, else empty.
    """

    epoch: int
    batches: int
    steps: int
    skipped: int
    lr: float
    objective: float
    value: float | None
    best_epoch: int
    grad_norm: float
    seconds: float
    samples_per_second: float
    peak_memory: int
    status: Status
    reason: str = ""
    train: dict[str, float] = field(default_factory=dict)
    val: dict[str, float] = field(default_factory=dict)

    @property
    def improved(self) -> bool:
        """Whether this epoch is the best so far."""
        return self.best_epoch == self.epoch

    def flat(self) -> dict[str, Any]:
        """One level of plain values, `train/NAME` and `val/NAME` for the means."""
        row = asdict(self)
        row["status"] = str(self.status)
        for group in ("train", "val"):
            row.update({f"{group}/{name}": value for name, value in row.pop(group).items()})
        return row
