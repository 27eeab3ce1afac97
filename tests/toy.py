"""A task with no radio physics, which keeps the seam honest: fit a noisy sine."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ristune.data.columns import Column


class ToySimulator:
    """Samples x in [-1, 1]^2 and t = sin(3 x_0) + x_1 + noise."""

    name = "toy"
    version = "1"
    columns = (
        Column("x", "<f4", (2,), "1", "input"),
        Column("target", "<f4", (), "1", "label"),
        Column("sample_id", "<i8", (), "1", "id"),
    )

    def __init__(self, train: int, val: int, test: int, seed: int, noise: float) -> None:
        self.sizes = {"train": train, "val": val, "test": test}
        self.seed = seed
        self.noise = noise

    def parameters(self) -> dict[str, float]:
        return {"noise": self.noise}

    def tables(self) -> Mapping[str, tuple[Sequence[Column], Mapping[str, np.ndarray]]]:
        return {}

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        x = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
        target = np.sin(3 * x[:, 0]) + x[:, 1] + self.noise * rng.normal(size=rows)
        return {
            "x": x,
            "target": target.astype(np.float32),
            "sample_id": rng.integers(0, 2**62, rows),
        }


class _Network(nn.Module):
    def __init__(self, width: int, explode: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))
        self.explode = explode

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        output: Tensor = self.layers(batch["x"]).squeeze(-1)
        return output / torch.zeros_like(output) if self.explode else output


class ToyTask:
    """Least squares; `explode` plants an infinite loss, `fail_at` an exception in validation."""

    def __init__(self, width: int, scale: float, explode: bool = False, fail: bool = False) -> None:
        self.network = _Network(width, explode)
        self.scale = scale
        self.fail = fail

    def loss(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"squared": self.scale * (output - batch["target"]).square().mean()}

    def truth(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return batch["target"].clone(), batch

    def metrics(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.fail:
            raise RuntimeError("planted failure")
        return {"mse": (output - batch["target"]).square()}
