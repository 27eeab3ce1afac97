"""One trial: a Config to a dataset, a task and a trainer, and on to an iterator of records; knows no Ray."""

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

import ristune
from ristune.config import Config, build
from ristune.data import device as data_device
from ristune.data.dataset import Dataset
from ristune.data.opening import measured_stream, open_configured, train_stream
from ristune.data.stream import Stream
from ristune.errors import InputError
from ristune.training import checkpoint, dump, resume
from ristune.training.curriculum import Stage, parse_curriculum
from ristune.training.device import configure_process, resolve_device
from ristune.training.record import NOTHING_BEFORE, Before, Record, Status
from ristune.training.rng import RandomState, seed_process
from ristune.training.task import Attaches, Task
from ristune.training.trainer import Trainer
from ristune.training.watcher import Failure

# At the ends of short epochs, no more of the time than this goes into keeping states to resume from.
KEEPING_SHARE = 0.05


@dataclass(frozen=True)
class Trial:
    """Everything one training needs, built and checked, not yet started.

    Attributes:
        origin: what a checkpoint says it came from: configuration, dataset, versions; plain values.
    """

    config: Config
    dataset: Dataset
    task: Task
    trainer: Trainer
    train: Stream
    val: Stream
    # Made once: OmegaConf turns a Ctrl-C that meets it at work into an error of its own.
    origin: Mapping[str, Any]

    def run(
        self,
        directory: Path | None = None,
        resumable: bool = False,
        stopping: Callable[[], bool] = lambda: False,
        before: Before = NOTHING_BEFORE,
    ) -> Iterator[Record]:
        """Train, or go on from where `resume.restore` has put the trainer.

        Args:
            directory: of the training: the best epoch's checkpoint goes to `best`, the first window that was
                not finite to `diverged`.
            resumable: also keep states to resume from, in `resume`.
            stopping: asked between two windows; if so the window's state is kept and there is no further
                record.
            before: what came before in the same folder, on smaller shares of the data.
        """
        seed_process(self.config.seed)
        kept = _Keeper(self, directory, resumable, stopping, before)
        if before.epochs and self.trainer.progress.batches == 0:
            # From now on it does not go back to the share before.
            kept.keep()
        while True:
            for record in map(before.counted, self.trainer.fit(kept)):
                if directory is not None and record.improved:
                    checkpoint.save(directory / "best", self.trainer.network, self._state(record))
                yield record
                # After the record was taken: one that is lost is made again, never left out.
                if record.status is Status.RUNNING:
                    kept.epoch_ended()
                if record.status is not Status.RUNNING or stopping():
                    return
            if not self.trainer.interrupted:
                return
            kept.keep()
            if stopping():
                return

    def _state(self, record: Record) -> dict[str, Any]:
        return {
            "epoch": record.epoch,
            "objective": record.objective,
            "val": finite(record.val),
            "train": finite(record.train),
            **self.origin,
        }


class _Keeper:
    """Pauses a training to keep its state, and writes its first fault down."""

    def __init__(
        self,
        trial: Trial,
        directory: Path | None,
        resumable: bool,
        stopping: Callable[[], bool],
        before: Before,
    ) -> None:
        self._trial = trial
        self._before = before
        self._directory = directory
        self._resumable = resumable
        self._stopping = stopping
        self._kept = time.monotonic()
        self._cost = 0.0

    def pause(self) -> bool:
        """Whether the training is to stop, or its state is due."""
        due = time.monotonic() - self._kept > self._trial.config.training.checkpoint_seconds
        return self._stopping() or (self._resumable and due)

    def failed(self, failure: Failure) -> None:
        """Write the failure down."""
        if self._directory is not None:
            dump.write(self._directory, failure, self._trial.origin)

    def epoch_ended(self) -> None:
        """Keep the state, unless epochs are so short that much of the time would go into it."""
        worth = time.monotonic() - self._kept >= self._cost / KEEPING_SHARE
        if worth or self._stopping():
            self.keep()

    def keep(self) -> None:
        """Keep the state that the trainer is in."""
        started = time.monotonic()
        if self._resumable and self._directory is not None:
            origin = {**self._trial.origin, "before": asdict(self._before)}
            resume.keep(self._directory, self._trial.trainer, origin, self._before.epochs)
        self._kept = time.monotonic()
        self._cost = self._kept - started


def prepare(config: Config, report: Callable[[str], None]) -> Trial:
    """Open the dataset, build the task, and join them in a trainer.

    Weights are drawn from `config.seed` alone, whatever was drawn before in this process.

    Args:
        config: what to train.
        report: told of long work, such as fetching the dataset, in a line each.

    Raises:
        InputError: if the dataset is missing, damaged or not the task's, or a value is refused.
    """
    device = resolve_device(config.training.device)
    configure_process(config.training)
    dataset = open_configured(config.data, report)
    task = build_task(config, dataset)
    batch_size = config.training.batch_size
    train = train_stream(config.data, dataset, batch_size, config.seed, device)
    val = measured_stream(config.data, dataset, "val", batch_size, device, config.data.val_limit)
    stages = build_stages(config, dataset, task, train)
    trainer = Trainer(task, train, val, config.training, config.optimizer, device, stages)
    origin = {
        "config": config.resolved(),
        "source": config.source,
        "overrides": list(config.overrides),
        "config_dirs": list(config.config_dirs),
        "dataset_id": dataset.dataset_id,
        "versions": versions(),
    }
    return Trial(config, dataset, task, trainer, train, val, origin)


def build_stages(config: Config, dataset: Dataset, task: Task, train: Stream) -> list[Stage]:
    """The stages of a curriculum: samples by a filter, and a task of the stage's values on the one network.

    Raises:
        InputError: if a stage is refused, or its values would make another network.
    """
    stages = []
    for first, values in parse_curriculum(config.training.curriculum, config.training.epochs):
        own = task_values(values)
        staged = staged_task(config, dataset, task, own) if own else task
        samples = train.narrowed(values["data.filter"]) if "data.filter" in values else train
        stages.append(Stage(first, staged, samples))
    return stages


def task_at(config: Config, dataset: Dataset, epoch: int) -> Task:
    """The task of an epoch, from 1: that of the configuration, or of its curriculum's stage."""
    task = build_task(config, dataset)
    stages = parse_curriculum(config.training.curriculum, config.training.epochs)
    begun = [values for first, values in stages if first <= epoch]
    own = task_values(begun[-1]) if begun else {}
    return staged_task(config, dataset, task, own) if own else task


def task_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a stage's values those that make another task."""
    return {path: value for path, value in values.items() if path.startswith("task.")}


def staged_task(config: Config, dataset: Dataset, task: Task, values: Mapping[str, Any]) -> Task:
    """The task with other values and the same network.

    Args:
        config: of the training.
        dataset: shown to the task.
        task: whose network is trained.
        values: by path below `task`.

    Raises:
        InputError: if they would make another network.
    """
    staged = build_task(config.with_values(values), dataset)
    if describe_network(task.network) != describe_network(staged.network):
        raise InputError(
            "training.curriculum",
            dict(values),
            "a stage must leave the network as it is",
            "set what makes the network for the whole training",
        )
    staged.network = task.network
    return staged


def describe_network(network: nn.Module) -> dict[str, Any]:
    """What makes a network but for its weights: shapes, modules, and the plain values that these hold."""
    shapes: dict[str, Any] = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    for name, module in network.named_modules():
        held = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | tuple)}
        shapes[f"module {name}"] = type(module).__name__, {k: held[k] for k in held if k != "training"}
    return shapes


def build_task(config: Config, dataset: Dataset) -> Task:
    """The task of a configuration, shown the dataset; whatever it draws by itself it draws from the seed."""
    # Weights are drawn on the CPU: naming no GPU keeps torch from opening a context on each.
    generators = RandomState.capture(torch.device("cpu"))
    seed_process(config.seed)
    try:
        return _built(config, dataset)
    finally:
        generators.restore(torch.device("cpu"))


def _built(config: Config, dataset: Dataset) -> Task:
    task: Task = build(config.task)
    missing = [name for name in ("network", "loss", "metrics") if not hasattr(task, name)]
    if missing:
        raise InputError(
            "task",
            type(task).__name__,
            f"it must have network, loss and metrics; missing: {', '.join(missing)}",
            "add them to the class",
        )
    if isinstance(task, Attaches):
        task.attach(dataset)
    return task


def kept_on_gpus() -> int:
    """The bytes of samples that this process keeps on GPUs for the next trial."""
    return data_device.kept_on_gpus()


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values: a number that is not finite becomes null, which JSON has and NaN it has not."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "ristune": ristune.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
