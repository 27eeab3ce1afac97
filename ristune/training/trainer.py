"""The shared trainer: epochs of guarded steps and validation, as an iterator of records."""

import math
import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.training.config import OptimizerConfig, TrainingConfig
from ristune.training.device import resolve_precision
from ristune.training.forward import forward, total_loss
from ristune.training.means import Means
from ristune.training.objective import Objective
from ristune.training.optimizer import build_optimizer
from ristune.training.record import Record, Status
from ristune.training.step import GuardedStep
from ristune.training.task import Batch, Batches, Task


class Trainer:
    """Trains one task on one device.

    Args:
        task: network, loss, metrics; its network is moved to `device`.
        train: training split.
        val: validation split.
        config: epochs, precision, clipping, objective.
        optimizer: optimizer and schedule.
        device: where to train.

    Attributes:
        task: as given.
        precision: what autocast runs in: bf16, fp16 or fp32.
        optimizer: with its state.
    """

    def __init__(
        self,
        task: Task,
        train: Batches,
        val: Batches,
        config: TrainingConfig,
        optimizer: OptimizerConfig,
        device: torch.device,
    ) -> None:
        self.task = task
        self._train = train
        self._val = val
        self._config = config
        self._device = device
        self.precision = resolve_precision(config.precision, device)
        self.task.network.to(device)
        self._objective = Objective(config.ceiling)
        self.optimizer, scheduler = build_optimizer(task.network, optimizer, config.epochs * len(train))
        trainable = [p for p in task.network.parameters() if p.requires_grad]
        self._step = GuardedStep(
            trainable, self.optimizer, scheduler, config.clip_norm, self.precision, device
        )
        self._batches = self._steps = self._skipped = self._skips_in_a_row = 0

    def fit(self) -> Iterator[Record]:
        """Train and validate, one record an epoch; the last record's status says how it ended."""
        self.check_objective()
        for epoch in range(1, self._config.epochs + 1):
            record = self._epoch(epoch)
            yield record
            if record.status is not Status.RUNNING:
                return

    def validate(self) -> dict[str, float]:
        """Sample-weighted mean of each of the task's metrics over the validation split."""
        means = Means()
        for batch in self._val.epoch(0):
            values = self._metrics(batch)
            means.add(values, len(next(iter(values.values()))))
        return means.result()

    @property
    def batches_seen(self) -> int:
        """Batches since the start; a display may read it from another thread."""
        return self._batches

    def check_objective(self) -> None:
        """Check on one validation batch that the objective is a metric: not an hour too late.

        Raises:
            InputError: if it is not, or a metric is not one value a sample.
        """
        batch = next(iter(self._val.epoch(0)))
        metrics = self._metrics(batch)
        if self._config.objective not in metrics:
            raise InputError(
                "training.objective",
                self._config.objective,
                f"it must be a metric of the task: {', '.join(sorted(metrics))}",
                "choose one of them, or add it to the task's `metrics`",
            )
        rows = len(next(iter(batch.values())))
        for name, values in metrics.items():
            if values.shape != (rows,):
                raise InputError(
                    f"task.metrics: {name!r}",
                    tuple(values.shape),
                    f"it must have the shape [B] = ({rows},), one value a sample",
                    "do not average over the batch: the trainer does",
                )

    def _metrics(self, batch: Batch) -> Mapping[str, Tensor]:
        self.task.network.eval()
        with torch.no_grad():
            output, prepared = forward(self.task, batch, self.precision, self._device)
            return self.task.metrics(output, prepared)

    def _train_epoch(self, epoch: int) -> tuple[Means, float, str]:
        """One epoch of guarded steps: means of the loss terms, mean gradient norm, why it diverged."""
        self.task.network.train()
        means = Means()
        norms: list[float] = []
        for batch in self._train.epoch(epoch):
            output, prepared = forward(self.task, batch, self.precision, self._device)
            terms = self.task.loss(output, prepared)
            loss = total_loss(terms)
            result = self._step(loss)
            means.add({**terms, "loss": loss}, len(next(iter(batch.values()))))
            self._batches += 1
            if result.taken:
                self._steps += 1
                self._skips_in_a_row = 0
                norms.append(result.grad_norm)
                continue
            self._skipped += 1
            self._skips_in_a_row += 1
            if self._skips_in_a_row >= self._config.max_skips:
                reason = f"{self._skips_in_a_row} steps in a row were skipped: {result.reason}"
                return means, math.nan, reason
        return means, sum(norms) / len(norms) if norms else math.nan, ""

    def _epoch(self, epoch: int) -> Record:
        started = time.perf_counter()
        means, grad_norm, reason = self._train_epoch(epoch)
        trained = time.perf_counter() - started
        val = {} if reason else self.validate()
        bad = {name: mean for name, mean in val.items() if not math.isfinite(mean)}
        if bad:
            reason = "validation " + ", ".join(f"{name} is {mean}" for name, mean in bad.items())
        value = math.nan if reason else val[self._config.objective]
        self._objective.update(value, epoch)
        status = Status.COMPLETE if epoch == self._config.epochs else Status.RUNNING
        return Record(
            epoch=epoch,
            batches=self._batches,
            steps=self._steps,
            skipped=self._skipped,
            lr=self.optimizer.param_groups[0]["lr"],
            train=means.result(),
            val=val,
            value=value if math.isfinite(value) else None,
            objective=self._objective.reported,
            best_epoch=self._objective.best_epoch,
            grad_norm=grad_norm,
            seconds=time.perf_counter() - started,
            samples_per_second=means.samples / trained,
            peak_memory=torch.cuda.max_memory_allocated() if self._device.type == "cuda" else 0,
            status=Status.DIVERGED if reason else status,
            reason=reason,
        )
