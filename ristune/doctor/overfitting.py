"""Whether the trainer can drive the loss down on a few samples, and does it by their inputs."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Outcome, failed, passed
from ristune.training.forward import total_loss
from ristune.training.task import Batch
from ristune.training.tensors import rows_of
from ristune.trial import Trial

ROWS, BATCH, EPOCHS = 64, 32, 80
# Seconds after which it is judged as it stands.
SECONDS = 40.0
# Epochs between two looks; it ends early where both figures are beyond doubt.
LOOK = 10
CLEAR = 0.3
# Least fall of the loss relative to its start, and least share of the loss with other labels that is due to
# their being others, beyond what an untrained network has by chance. Measured: networks without inputs reach
# a share of 0.015 and gain 0.008 by training, sound ones at a hundredth of their best learning rate a fall of
# 0.066 and gain 0.04.
FALLS, GAP = 0.05, 0.03
# A share that needs no training to be believed.
USED = 0.5
# Ways of exchanging labels; their mean is taken.
ROLLS = 4


@dataclass(frozen=True)
class Fit:
    """How well a network fits some samples.

    Attributes:
        matched: the loss.
        exchanged: the loss with labels of other rows; None where no column is a label.
    """

    matched: float
    exchanged: float | None

    @property
    def gap(self) -> float:
        """What share of the loss with other labels is due to their being others; a loss may be negative."""
        if self.exchanged is None:
            return 1.0
        return (self.exchanged - self.matched) / max(abs(self.exchanged), abs(self.matched), 1e-30)


def overfits(bench: Bench) -> Outcome:
    """The loss on a few samples falls, and rises again where their labels are exchanged."""
    trial = bench.fresh(_few(bench))
    batches = list(trial.train.epoch(0))
    labels = [column.name for column in bench.dataset.manifest.columns if column.role == "label"]
    fit = start = _fit(bench, trial, batches, labels)
    began, steps = time.monotonic(), 0
    for record in trial.run():
        steps = record.steps
        late = time.monotonic() - began > SECONDS
        last = record.epoch == trial.config.training.epochs
        if late or last or record.epoch % LOOK == 0:
            fit = _fit(bench, trial, batches, labels)
            if late or min(_falls(start, fit), fit.gap) >= CLEAR:
                break
    return _judge(start, fit, f"{trial.train.rows} samples, {steps} steps")


def _few(bench: Bench) -> dict[str, Any]:
    untrained = bench.untrained()
    limit = bench.config.data.train_limit or untrained.train.rows
    return {
        # A filter leaves out some of them, so that more are needed.
        "data.train_limit": min(limit, math.ceil(ROWS * limit / untrained.train.rows)),
        "data.val_limit": min(8, untrained.val.rows),
        "training.batch_size": min(BATCH, bench.config.training.batch_size),
        "training.epochs": EPOCHS,
        # No decay, no average, no stages: the samples and the rate are to stay as they are.
        "optimizer.schedule": "constant",
        "training.average": "none",
        "training.curriculum": [],
        "training.diagnostics": False,
    }


def _falls(start: Fit, fit: Fit) -> float:
    return (start.matched - fit.matched) / max(abs(start.matched), abs(fit.matched), 1e-30)


def _judge(start: Fit, fit: Fit, trained: str) -> Outcome:
    other = "" if fit.exchanged is None else f", {fit.exchanged:.4g} with labels of other rows"
    figures = f"{trained}: loss {start.matched:.4g} -> {fit.matched:.4g}{other}"
    falls = _falls(start, fit)
    if not falls >= FALLS:
        return failed(
            f"{figures}: it falls by {falls:.0%}, less than {FALLS:.0%}",
            "change optimizer.lr or the network's size; look at gradients, loss-terms and training.clip_norm",
        )
    if not (fit.gap >= USED or fit.gap - start.gap >= GAP):
        return failed(
            f"{figures}: other labels cost {fit.gap:.1%} of it (untrained {start.gap:.1%}), so inputs are "
            "hardly used",
            "the network learns a constant: look at what reaches it of the batch, and at the order in which "
            "outputs and labels are compared",
        )
    return passed(figures if fit.exchanged is not None else f"{figures} (no column has the role label)")


def _fit(bench: Bench, trial: Trial, batches: list[Batch], labels: list[str]) -> Fit:
    matched = _mean_loss(bench, trial, batches)
    if not labels:
        return Fit(matched, None)
    rolled = [[_rolled(batch, labels, shift) for batch in batches] for shift in range(1, ROLLS + 1)]
    return Fit(matched, sum(_mean_loss(bench, trial, other) for other in rolled) / ROLLS)


def _rolled(batch: Batch, labels: list[str], shift: int) -> Batch:
    return {name: tensor.roll(shift, 0) if name in labels else tensor for name, tensor in batch.items()}


def _mean_loss(bench: Bench, trial: Trial, batches: list[Batch]) -> float:
    """The loss of the network as it is validated, weighted by samples."""
    trial.task.network.eval()
    total = 0.0
    with torch.no_grad(), bench.seeded():
        for batch in batches:
            output, prepared = bench.forward(trial.task, batch)
            total += total_loss(trial.task.loss(output, prepared)).item() * rows_of(batch)
    return total / trial.train.rows
