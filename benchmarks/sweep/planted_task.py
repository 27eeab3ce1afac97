"""The task whose loss is not finite where `planted` says, for ristune's trainer."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sweep import planted
from ristune.data.columns import Column


class PlantedSimulator:
    """Samples that are there to be counted: an epoch has so many windows."""

    name = "planted"
    version = "1"
    columns = (
        Column("x", "<f4", (1,), "1", "input"),
        Column("sample_id", "<i8", (), "1", "id"),
    )

    def __init__(self, train: int, val: int, test: int, seed: int) -> None:
        self.sizes = {"train": train, "val": val, "test": test}
        self.seed = seed

    def parameters(self) -> dict[str, float]:
        """None."""
        return {}

    def tables(self) -> Mapping[str, tuple[Sequence[Column], Mapping[str, np.ndarray]]]:
        """None."""
        return {}

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        """Samples between 0 and 1."""
        return {
            "x": rng.random((rows, 1), dtype=np.float32),
            "sample_id": rng.integers(0, 2**62, rows),
        }


class _Network(nn.Module):
    """One weight, and the windows it has been trained on."""

    seen: Tensor

    def __init__(self, windows: int, onset: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.windows = windows
        self.onset = onset

    @property
    def epoch(self) -> int:
        """The epoch under way, from 1; 0 before the first."""
        return -(-int(self.seen) // self.windows)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        if self.training:
            self.seen += 1
        output = (self.weight * batch["x"]).squeeze(-1)
        diverged = 0 < self.onset <= self.epoch
        return output / torch.zeros_like(output) if diverged else output


class PlantedTask:
    """A loss that is not finite from the onset on, and the error that `planted` says."""

    def __init__(self, rate: float, depth: float, mix: float, margin: float, windows: int) -> None:
        self._values = {"rate": rate, "depth": depth, "mix": mix}
        self._margin = margin
        self.network = _Network(windows, planted.onset(self._values))

    def loss(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Least squares."""
        return {"squared": (output - batch["x"].squeeze(-1)).square().mean()}

    def metrics(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The error of the epoch, the same for each sample."""
        error = planted.error(self._values, self.network.epoch, self._margin)
        return {"error": torch.full_like(output, error)}
