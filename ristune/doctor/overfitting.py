"""Whether the trainer can drive the loss down on a few samples, and does it by their inputs."""

import time
from dataclasses import dataclass

import torch

from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Outcome, failed, passed
from ristune.training.forward import total_loss
from ristune.training.task import Batch
from ristune.trial import Trial

ROWS, BATCH, EPOCHS = 64, 32, 80
# Seconds after which it is judged as it stands.
SECONDS = 40.0
# Epochs between two looks; it ends early where both figures are beyond doubt.
LOOK = 10
CLEAR = 0.5
# Least fall of the loss relative to its start, and least rise when labels change places, relative to that.
FALLS, GAP = 0.1, 0.1
# Ways of exchanging labels; their mean is taken.
ROLLS = 4


@dataclass(frozen=True)
class Fit:
    """How well a trial fits its samples.

    Attributes:
        start: the loss before the first step.
        matched: the loss now.
        exchanged: the loss now with labels of other rows; None where no column is a label.
    """

    start: float
    matched: float
    exchanged: float | None

    @property
    def falls(self) -> float:
        """What share of the loss is gone; a loss may be negative."""
        return (self.start - self.matched) / max(abs(self.start), abs(self.matched), 1e-30)

    @property
    def gap(self) -> float:
        """What share of the loss with other labels is due to their being others."""
        if self.exchanged is None:
            return 1.0
        return (self.exchanged - self.matched) / max(abs(self.exchanged), abs(self.matched), 1e-30)

    def beyond(self, falls: float, gap: float) -> bool:
        """Whether both figures reach so far."""
        return self.falls >= falls and self.gap >= gap


def overfits(bench: Bench) -> Outcome:
    """The loss on a few samples falls, and rises again where their labels are exchanged."""
    rows = min(ROWS, bench.untrained().train.rows)
    values = {
        "data.train_limit": min(rows, bench.config.data.train_limit or rows),
        "data.val_limit": min(8, bench.untrained().val.rows),
        "training.batch_size": min(BATCH, bench.config.training.batch_size),
        "training.epochs": EPOCHS,
        # Constant: no rise, no decay.
        "optimizer.warmup": 0.0,
        "optimizer.final_lr": 1.0,
    }
    trial = bench.fresh(values)
    batches = list(trial.train.epoch(0))
    labels = [column.name for column in bench.dataset.manifest.columns if column.role == "label"]
    fit = start = _fit(bench, trial, batches, labels, None)
    began, steps = time.monotonic(), 0
    for record in trial.run():
        steps = record.steps
        late = time.monotonic() - began > SECONDS
        if record.epoch % LOOK == 0 or late:
            fit = _fit(bench, trial, batches, labels, start.matched)
            if late or fit.beyond(CLEAR, CLEAR):
                break
    return _judge(fit, steps, trial.train.rows)


def _judge(fit: Fit, steps: int, rows: int) -> Outcome:
    other = "" if fit.exchanged is None else f", {fit.exchanged:.4g} with labels of other rows"
    figures = f"{rows} samples, {steps} steps: loss {fit.start:.4g} -> {fit.matched:.4g}{other}"
    if not fit.falls >= FALLS:
        return failed(
            f"{figures}: it falls by {fit.falls:.0%}, less than {FALLS:.0%}",
            "raise optimizer.lr or the network's size; look at gradients, loss-terms and clip_norm",
        )
    if not fit.gap >= GAP:
        return failed(
            f"{figures}: other labels cost {fit.gap:.0%}, less than {GAP:.0%}, so inputs are hardly used",
            "the network learns a constant: look at what reaches it of the batch, and at the order in which "
            "outputs and labels are compared",
        )
    return passed(figures if fit.exchanged is not None else f"{figures} (no column has the role label)")


def _fit(bench: Bench, trial: Trial, batches: list[Batch], labels: list[str], start: float | None) -> Fit:
    matched = _mean_loss(bench, trial, batches)
    if not labels:
        return Fit(matched if start is None else start, matched, None)
    exchanged = [
        _mean_loss(bench, trial, [_rolled(batch, labels, shift) for batch in batches])
        for shift in range(1, ROLLS + 1)
    ]
    return Fit(matched if start is None else start, matched, sum(exchanged) / ROLLS)


def _rolled(batch: Batch, labels: list[str], shift: int) -> Batch:
    return {name: tensor.roll(shift, 0) if name in labels else tensor for name, tensor in batch.items()}


def _mean_loss(bench: Bench, trial: Trial, batches: list[Batch]) -> float:
    """The loss of the network as it is validated, weighted by samples."""
    trial.task.network.eval()
    total = 0.0
    with torch.no_grad(), bench.seeded():
        for batch in batches:
            output, prepared = bench.forward(trial.task, batch)
            total += total_loss(trial.task.loss(output, prepared)).item() * len(next(iter(batch.values())))
    return total / trial.train.rows
