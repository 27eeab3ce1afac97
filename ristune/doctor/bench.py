"""The small trial that the checks share, and what they derive of it; each is made once."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ristune.config import Config
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.foreign.opening import is_foreign
from ristune.data.manifest import MANIFEST
from ristune.data.opening import train_stream
from ristune.doctor.outcome import Once
from ristune.errors import InputError
from ristune.simulate import ensure_dataset, simulate
from ristune.storage.access import open_storage
from ristune.training.config import TrainingConfig
from ristune.training.curriculum import parse_curriculum
from ristune.training.forward import forward
from ristune.training.record import Record
from ristune.training.task import Batch, Output, Task
from ristune.training.tensors import trainable
from ristune.trial import Trial, prepare

# The short training: enough steps to see what moves, few enough for a few seconds.
TRAIN, VAL, BATCH, EPOCHS = 384, 192, 32, 2
# A dataset that the doctor makes for itself where the configured one is not there.
DRAWN = {"train": 1024, "val": 256, "test": 64}


@dataclass(frozen=True)
class Trained:
    """A trial after the short training.

    Attributes:
        trial: its network as the last step left it.
        before: the parameters before the first step, by name.
        records: one an epoch.
        best: the folder of the best epoch's checkpoint; not there if no validation was finite.
    """

    trial: Trial
    before: Mapping[str, Tensor]
    records: tuple[Record, ...]
    best: Path

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The trainable parameters by name."""
        return trainable(self.trial.task.network)


class Bench:
    """A configuration made small, and trials of it.

    Args:
        config: as the user gave it, its dataset there.
        folder: for what is written; the caller deletes it.
        report: told of long work, in a line each.

    Attributes:
        full: the configuration as given.
        untrained: a trial of the small configuration, never trained.
        trained: another one, after the short training.
    """

    def __init__(self, config: Config, folder: Path, report: Callable[[str], None]) -> None:
        self.full = config
        self.folder = folder
        self._report = report
        self._small = Once("the dataset", lambda: shrink(config))
        self.untrained = Once("the trial", self.fresh)
        self.trained = Once("the short training", self._train)

    @property
    def config(self) -> Config:
        """The configuration with a few samples and epochs."""
        return self._small()

    @property
    def dataset(self) -> Dataset:
        """The dataset, read by byte range and kept nowhere."""
        return open_dataset(self.full.data.uri)

    @property
    def device(self) -> torch.device:
        """Where trials run."""
        return self.untrained().train.device

    def fresh(self, values: Mapping[str, Any] | None = None) -> Trial:
        """A new trial of the small configuration, some values of it changed."""
        return prepare(self.config.with_values(values or {}), self._report)

    def batches(self, count: int, split: str = "train") -> list[Batch]:
        """The first batches of an epoch."""
        trial = self.untrained()
        epoch = (trial.train if split == "train" else trial.val).epoch(0)
        return [batch for _, batch in zip(range(count), epoch, strict=False)]

    def forward(self, task: Task, batch: Batch) -> tuple[Output, Batch]:
        """A batch through a task as in training; FP16 gradients need a scaler, so FP32 stands in for it."""
        precision = self.untrained().trainer.precision
        return forward(task, batch, "fp32" if precision == "fp16" else precision, self.device)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """The same random numbers every time for a task that draws some (dropout)."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.config.seed)
            yield

    def _train(self) -> Trained:
        trial = self.fresh()
        before = {
            name: parameter.detach().clone() for name, parameter in trainable(trial.task.network).items()
        }
        folder = self.folder / "trained"
        return Trained(trial, before, tuple(trial.run(folder)), folder / "best")


def tensors(output: Output) -> dict[str, Tensor]:
    """A network's output by name; a lone tensor is called `output`."""
    return dict(output) if isinstance(output, Mapping) else {"output": output}


def with_dataset(config: Config, folder: Path, console: Console) -> Config:
    """The configuration with a dataset that is there: its own, or a small one that is simulated in `folder`.

    Raises:
        InputError: if it is remote and missing, cannot be simulated, or holds other values than the
            overrides ask for.
    """
    storage = open_storage(config.data.uri, "data.uri")
    there = storage.directory is None or storage.exists(MANIFEST) or is_foreign(storage)
    sizes = config.simulator or {}
    if there or not all(isinstance(sizes.get(split), int) for split in DRAWN):
        ensure_dataset(config, console)
        return config
    uri = str(folder / "dataset")
    few = {f"simulator.{split}": min(rows, sizes[split]) for split, rows in DRAWN.items()}
    console.print(
        f"{config.data.uri} does not exist yet: a small dataset stands in for it, deleted at the end"
    )
    small = config.with_values({**few, "data.uri": uri, "data.cache": str(folder / "cache")})
    simulate(small, uri, console)
    limits = {f"data.{split}_limit": None for split in ("train", "val")}
    return small.with_values(limits)


def shrink(config: Config) -> Config:
    """The configuration of the short training: few samples, small batches, two epochs or one a stage."""
    dataset = open_dataset(config.data.uri)
    rows = dataset.limited("train", config.data.train_limit)
    most = math.ceil(rows * config.data.fraction)
    stages = _early(config.training)
    filters = [(stage["set"]["data.filter"], BATCH) for stage in stages if "data.filter" in stage["set"]]
    limit = max(
        _enough(config.with_values({"data.filter": each}), dataset, most, least)
        for each, least in [(config.data.filter, TRAIN), *filters]
    )
    val = min(VAL, dataset.limited("val", config.data.val_limit))
    batch = min(BATCH, config.training.batch_size, max(2, min(limit, TRAIN) // 4))
    if limit > batch > 1 == limit % batch:
        # BatchNorm refuses a batch of one.
        limit -= 1
    return config.with_values(
        {
            "data.fraction": 1.0,
            "data.train_limit": limit,
            "data.val_limit": val,
            "training.batch_size": batch,
            "training.epochs": max([EPOCHS, *(stage["from"] for stage in stages)]),
            "training.curriculum": stages,
        }
    )


def _early(training: TrainingConfig) -> list[dict[str, Any]]:
    """The stages of a curriculum, each an epoch long."""
    stages = parse_curriculum(training.curriculum, training.epochs)
    start = 1 if stages and stages[0][0] == 1 else 2
    return [{"from": start + index, "set": dict(values)} for index, (_, values) in enumerate(stages)]


def _enough(config: Config, dataset: Dataset, most: int, least: int) -> int:
    """How many samples it takes until `least` of them lie in the filter's bounds."""
    limit = min(TRAIN, most)
    while limit < most:
        small = config.with_values({"data.fraction": 1.0, "data.train_limit": limit}).data
        try:
            if train_stream(small, dataset, BATCH, 0, torch.device("cpu")).rows >= least:
                return limit
        except InputError:
            # None of so few lies in them; with all samples the same refusal reaches the user.
            pass
        limit = min(4 * limit, most)
    return limit
