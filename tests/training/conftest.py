from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ristune.training.config import OptimizerConfig, TrainingConfig
from ristune.training.curriculum import Stage
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

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for first in range(start * self.batch_size, self.rows, self.batch_size):
            yield {k: v[first : first + self.batch_size].clone() for k, v in self.tensors.items()}


def samples(rows: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, 2, generator=generator) * 2 - 1
    return {"x": x, "target": torch.sin(3 * x[:, 0]) + x[:, 1]}


TRAINING = dict(
    epochs=3,
    batch_size=16,
    accumulate=1,
    precision="fp32",
    loss_scale=None,
    device="cpu",
    threads=0,
    tf32=False,
    deterministic=False,
    clip_norm=1.0,
    average="none",
    ema_decay=0.9,
    swa_start=0.5,
    swa_lr=0.5,
    curriculum=[],
    objective="mse",
    ceiling=1e6,
    max_skips=5,
    max_skip_share=1.0,
    check_inputs=1,
    diagnostics=True,
    checkpoint_seconds=300.0,
)
OPTIMIZER = dict(
    name="adamw",
    lr=1e-2,
    weight_decay=0.0,
    beta1=0.9,
    beta2=0.999,
    schedule="cosine",
    warmup=0.1,
    final_lr=0.01,
    plateau_factor=0.5,
    plateau_patience=3,
    groups={},
)

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer() -> MakeTrainer:
    def make(
        task: Any = None,
        train: MemoryBatches | None = None,
        val: MemoryBatches | None = None,
        stages: Sequence[Stage] = (),
        **changes: Any,
    ) -> Trainer:
        torch.manual_seed(0)
        training = {k: v for k, v in changes.items() if k in TRAINING}
        optimizer = {k: v for k, v in changes.items() if k in OPTIMIZER}
        assert len(training) + len(optimizer) == len(changes)
        return Trainer(
            task or ToyTask(width=8, scale=1.0),
            train or MemoryBatches(samples(72), 16),
            val or MemoryBatches(samples(40, seed=1), 16),
            TrainingConfig(**{**TRAINING, **training}),
            OptimizerConfig(**{**OPTIMIZER, **optimizer}),
            torch.device("cpu"),
            stages,
        )

    return make
