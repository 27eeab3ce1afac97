"""Ten classes: unlike the toy it has integer labels, dropout, batch norm and two outputs."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ristune.data.columns import Column

CLASSES, FEATURES = 10, 16


class ClassSimulator:
    """Samples around one of ten centres, and its number."""

    name, version = "classes", "1"
    columns = (
        Column("features", "<f4", (FEATURES,), "1", "input"),
        Column("number", "<i4", (), "1", "label"),
        Column("sample_id", "<i8", (), "1", "id"),
    )

    def __init__(self, train: int, val: int, test: int, seed: int, noise: float) -> None:
        self.sizes = {"train": train, "val": val, "test": test}
        self.seed, self.noise = seed, noise

    def parameters(self) -> dict[str, float]:
        return {"noise": self.noise}

    def tables(self) -> Mapping[str, tuple[Sequence[Column], Mapping[str, np.ndarray]]]:
        return {}

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        centres = np.random.default_rng(0).normal(size=(CLASSES, FEATURES))
        number = rng.integers(0, CLASSES, rows)
        features = centres[number] + self.noise * rng.normal(size=(rows, FEATURES))
        return {
            "features": features.astype(np.float32),
            "number": number.astype(np.int32),
            "sample_id": rng.integers(0, 2**62, rows),
        }


class _Network(nn.Module):
    def __init__(self, width: int, dead: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(FEATURES, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(width, width),
        )
        self.logits, self.norm = nn.Linear(width, CLASSES), nn.Linear(width, 1)
        self.dead = dead

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        features = torch.relu(self.body(batch["features"] * (0 if self.dead else 1)))
        return {"logits": self.logits(features), "norm": self.norm(features).squeeze(-1)}


class ClassTask:
    """Cross entropy, and the norm of the features beside it; `dead` cuts the inputs off."""

    def __init__(self, width: int, weights: Mapping[str, float], dead: bool) -> None:
        self.network = _Network(width, dead)
        self.weights = weights

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**batch, "norm": batch["features"].square().mean(1)}

    def loss(self, output: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        entropy = nn.functional.cross_entropy(output["logits"], batch["number"].long())
        return {
            "entropy": self.weights["entropy"] * entropy,
            "norm": self.weights["norm"] * (output["norm"] - batch["norm"]).square().mean(),
        }

    def metrics(self, output: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"error": (output["logits"].argmax(1) != batch["number"]).float()}
