"""One trial: a Config to a dataset, a task and a trainer, and on to an iterator of records; knows no Ray."""

import math
import platform
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

import ristune
from ristune.config import Config, build
from ristune.data.dataset import Dataset
from ristune.data.opening import measured_stream, open_configured, train_stream
from ristune.data.stream import Stream
from ristune.errors import InputError
from ristune.training import checkpoint
from ristune.training.device import resolve_device
from ristune.training.record import Record
from ristune.training.task import Attaches, Task
from ristune.training.trainer import Trainer


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

    def run(self, directory: Path | None = None) -> Iterator[Record]:
        """Train; with a `directory`, keep the best epoch's checkpoint in `directory/best`."""
        _seed_process(self.config.seed)
        for record in self.trainer.fit():
            if directory is not None and record.improved:
                checkpoint.save(directory / "best", self.task.network, self._state(record))
            yield record

    def _state(self, record: Record) -> dict[str, Any]:
        return {
            "epoch": record.epoch,
            "objective": record.objective,
            "val": finite(record.val),
            "train": finite(record.train),
            **self.origin,
        }


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
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    dataset = open_configured(config.data, report)
    task = build_task(config, dataset)
    batch_size = config.training.batch_size
    train = train_stream(config.data, dataset, batch_size, config.seed, device)
    val = measured_stream(config.data, dataset, "val", batch_size, device, config.data.val_limit)
    trainer = Trainer(task, train, val, config.training, config.optimizer, device)
    origin = {
        "config": config.resolved(),
        "source": config.source,
        "overrides": list(config.overrides),
        "config_dirs": list(config.config_dirs),
        "dataset_id": dataset.dataset_id,
        "versions": versions(),
    }
    return Trial(config, dataset, task, trainer, train, val, origin)


def build_task(config: Config, dataset: Dataset) -> Task:
    """The task of a configuration, its weights drawn from the seed, shown the dataset."""
    # Weights are drawn on the CPU: naming no GPU keeps torch from opening a context on each.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
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


def _seed_process(seed: int) -> None:
    """Seed what a task may draw from by itself (dropout), lest it depend on an earlier trial."""
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


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
