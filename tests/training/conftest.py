from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from ristune.training.config import OptimizerConfig, TrainingConfig
from ristune.training.trainer import Trainer
from tests.toy import ToyTask


class MemoryBatches:
    """A split held in memory, in a fixed order."""

    def __init__(self, tensors: Mapping[str, Tensor], batch_size: int) -> None:
        self.tensors = dict(tensors)
        self.batch_size = batch_size
        self.rows = len(next(iter(self.tensors.values())))

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[dict[str, Tensor]]:
        for first in range(0, self.rows, self.batch_size):
            yield {k: v[first : first + self.batch_size].clone() for k, v in self.tensors.items()}


def samples(rows: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, 2, generator=generator) * 2 - 1
    return {"x": x, "target": torch.sin(3 * x[:, 0]) + x[:, 1]}


TRAINING = dict(
    epochs=3,
    batch_size=16,
    precision="fp32",
    device="cpu",
    threads=0,
    clip_norm=1.0,
    objective="mse",
    ceiling=1e6,
    max_skips=5,
)
OPTIMIZER = dict(name="adamw", lr=1e-2, weight_decay=0.0, beta1=0.9, beta2=0.999, warmup=0.1, final_lr=0.01)

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer() -> MakeTrainer:
    def make(
        task: Any = None,
        train: MemoryBatches | None = None,
        val: MemoryBatches | None = None,
        lr: float = 1e-2,
        **training: Any,
    ) -> Trainer:
        torch.manual_seed(0)
        return Trainer(
            task or ToyTask(width=8, scale=1.0),
            train or MemoryBatches(samples(72), 16),
            val or MemoryBatches(samples(40, seed=1), 16),
            TrainingConfig(**{**TRAINING, **training}),
            OptimizerConfig(**{**OPTIMIZER, "lr": lr}),
            torch.device("cpu"),
        )

    return make
