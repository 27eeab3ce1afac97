"""The shared trainer: epochs of guarded windows and validation, as an iterator of records."""

import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ristune.errors import InputError
from ristune.training import position
from ristune.training.average import Average
from ristune.training.config import OptimizerConfig, TrainingConfig
from ristune.training.curriculum import Stage, stage_at
from ristune.training.device import check_scaler, resolve_precision
from ristune.training.diagnostics import Diagnosis, Spread, Watch
from ristune.training.memory import out_of_memory
from ristune.training.objective import Objective
from ristune.training.optimizer import build_optimizer, diagnosed_groups
from ristune.training.record import Record, Status
from ristune.training.rng import RandomState
from ristune.training.schedule import Schedule
from ristune.training.step import GuardedStep
from ristune.training.task import Batches, Task
from ristune.training.tensors import trainable
from ristune.training.totals import Totals
from ristune.training.validation import Validation, require_metric
from ristune.training.watcher import Nobody, Watcher
from ristune.training.windows import Progress, WindowLoop

# torch's own first scale of FP16 gradients.
LOSS_SCALE = 2.0**16


class Trainer:
    """Trains one task on one device.

    Args:
        task: network, loss, metrics; its network is moved to `device`.
        train: training split.
        val: validation split.
        config: epochs, precision, clipping, objective.
        optimizer: optimizer and schedule.
        device: where to train.
        stages: of a curriculum, by first epoch; `task` and `train` hold until the first one begins.

    Attributes:
        task: as given.
        precision: what autocast runs in: bf16, fp16 or fp32.
        optimizer: with its state.
        progress: how far it is; a display may read it from another thread.
        total_batches: of the whole training.
        interrupted: whether `fit` ended because its watcher asked for a pause.
    """

    def __init__(
        self,
        task: Task,
        train: Batches,
        val: Batches,
        config: TrainingConfig,
        optimizer: OptimizerConfig,
        device: torch.device,
        stages: Sequence[Stage] = (),
    ) -> None:
        self.task = task
        self._stages = [Stage(0, task, train), *stages]
        self._config = config
        self._device = device
        self.precision = resolve_precision(config.precision, device)
        self._validation = Validation(task, val, self.precision, device)
        check_scaler(config.loss_scale, self.precision, task.network)
        network = task.network.to(device)
        self._objective = Objective(config.ceiling)
        self.optimizer = build_optimizer(network, optimizer)
        self._groups = diagnosed_groups(list(trainable(network)), optimizer)
        lengths = [len(stage_at(self._stages, epoch).train) for epoch in range(1, config.epochs + 1)]
        self.total_batches = sum(lengths)
        steps = sum(-(-length // config.accumulate) for length in lengths)
        swa = config.average == "swa"
        self._schedule = Schedule(
            self.optimizer,
            optimizer,
            total=steps,
            held=(max(1, round(config.swa_start * steps)), config.swa_lr) if swa else None,
        )
        self._average = Average(network, config)
        self._scaler = torch.amp.GradScaler(
            device.type, enabled=self.precision == "fp16", init_scale=config.loss_scale or LOSS_SCALE
        )
        step = GuardedStep(
            network, self.optimizer, self._schedule, self._average, config.clip_norm, self._scaler, device
        )
        self.progress = Progress()
        self._loop = WindowLoop(network, step, config, self.precision, device, self.progress)
        self.interrupted = self._checked = False
        self._totals = self._new_totals()
        self._random: RandomState | None = None

    @property
    def network(self) -> nn.Module:
        """What is validated, and to be saved: the task's network, or one with the average of its weights."""
        return self._average.network

    def fit(self, watcher: Watcher | None = None) -> Iterator[Record]:
        """Train and validate, one record an epoch; the last record's status says how it ended.

        Args:
            watcher: may pause the training, after which there is no further record; told of its first fault.
        """
        self.interrupted = False
        while self.progress.epoch <= self._config.epochs:
            started = time.perf_counter()
            reason = ""
            try:
                self._begin()
                record = self._epoch(watcher or Nobody(), started)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())
                record = None
            # Outside of `except`: its traceback holds every tensor of the pass that failed.
            if reason:
                self._release()
                record = self._record({}, math.nan, Diagnosis(), Status.OOM, reason, started)
            if record is None:
                self._totals.wall += time.perf_counter() - started
                self.interrupted = True
                return
            self.progress.epoch, self.progress.done = self.progress.epoch + 1, 0
            self._totals = self._new_totals()
            yield record
            if record.status is not Status.RUNNING:
                return

    def validate(self) -> dict[str, float]:
        """Sample-weighted mean of each of the task's metrics over the validation split."""
        return self._validation.run(self.network)

    def check_objective(self) -> None:
        """Check on one validation batch that the objective is a metric: not an hour too late.

        Raises:
            InputError: if it is not, or a metric is not one value a sample.
        """
        self._validation.check(self.network, self._config.objective)
        self._checked = True

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All that `load` needs to go on from here, beside the network: plain values, and tensors by name."""
        groups, moments = position.pack(self.optimizer)
        values = {
            "progress": asdict(self.progress),
            "precision": self.precision,
            "objective": self._objective.state(),
            "optimizer": groups,
            "schedule": self._schedule.state(),
            "scaler": self._scaler.state_dict(),
            "totals": self._totals.values(),
        }
        tensors = {
            "optimizer": moments,
            "average": self._average.tensors(),
            "totals": self._totals.tensors(),
            "random": RandomState.capture(self._device).tensors(),
        }
        return values, position.joined(tensors)

    def load(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from `state`; the network's weights must be in place. Generators follow when `fit` begins.

        Raises:
            InputError: if the training ran in another precision.
        """
        if values["precision"] != self.precision:
            raise InputError(
                "training.precision",
                self.precision,
                f"this training ran in {values['precision']}, and goes on in that",
                "resume it on a device that has it",
            )
        parts = position.parted(tensors)
        for name, value in values["progress"].items():
            setattr(self.progress, name, value)
        self._objective.load(values["objective"])
        self._schedule.load(values["schedule"])
        position.unpack(self.optimizer, values["optimizer"], parts.get("optimizer", {}))
        if values["scaler"]:
            self._scaler.load_state_dict(values["scaler"])
        self._average.load(parts.get("average", {}))
        self._totals = self._new_totals()
        self._totals.load(values["totals"], parts.get("totals", {}), self._device)
        self._random = RandomState.from_tensors(parts["random"])

    def _begin(self) -> None:
        """Before the first window in this process: look at the objective, and put generators in place."""
        if not self._checked:
            self.check_objective()
        if self._random is not None:
            self._random.restore(self._device)
            self._random = None

    def _epoch(self, watcher: Watcher, started: float) -> Record | None:
        """Train and validate; None if the watcher asked for a pause."""
        epoch, totals = self.progress.epoch, self._totals
        stage = stage_at(self._stages, epoch)
        reason, paused = self._loop.run(stage, totals, watcher)
        if paused:
            return None
        val: dict[str, float] = {}
        spread = Spread()
        if not reason:
            self._average.epoch(epoch, stage.task, stage.train, self.precision, self._device)
            val = self._validation.run(self.network, spread if totals.watch is not None else None)
            require_metric(self._config.objective, val)
            bad = {name: mean for name, mean in val.items() if not math.isfinite(mean)}
            if bad:
                reason = "validation " + ", ".join(f"{name} is {mean}" for name, mean in bad.items())
        value = math.nan if reason else val[self._config.objective]
        self._objective.update(value, epoch)
        if not reason:
            self._schedule.epoch(value)
        watch = totals.watch
        diagnosis = watch.result(totals.steps, spread.result()) if watch is not None else Diagnosis()
        status = Status.COMPLETE if epoch == self._config.epochs else Status.RUNNING
        return self._record(val, value, diagnosis, Status.DIVERGED if reason else status, reason, started)

    def _new_totals(self) -> Totals:
        network = self.task.network
        watch = Watch(network, self._groups, self._device) if self._config.diagnostics else None
        return Totals(self._config.clip_norm, watch)

    def _release(self) -> None:
        """Give back what a trial that ran out of memory holds: the process may run another."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _record(
        self,
        val: dict[str, float],
        value: float,
        diagnosis: Diagnosis,
        status: Status,
        reason: str,
        started: float,
    ) -> Record:
        totals, progress = self._totals, self.progress
        seconds = totals.seconds
        return Record(
            epoch=progress.epoch,
            batches=progress.batches,
            windows=progress.steps + progress.skipped,
            steps=progress.steps,
            skipped=progress.skipped,
            cause=totals.cause,
            lr=self.optimizer.param_groups[0]["lr"],
            train=totals.means,
            val=val,
            value=value if math.isfinite(value) else None,
            objective=self._objective.reported,
            best_epoch=self._objective.best_epoch,
            grad_norm=totals.grad_norm,
            clipped=totals.clipped,
            inputs=totals.inputs,
            seconds=totals.wall + time.perf_counter() - started,
            waiting=totals.waiting,
            samples_per_second=totals.samples / seconds if seconds else 0.0,
            peak_memory=torch.cuda.max_memory_allocated() if self._device.type == "cuda" else 0,
            status=status,
            reason=reason,
            diagnosis=diagnosis,
        )
