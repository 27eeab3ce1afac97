"""A task on real data: scikit-learn's handwritten digits, ten classes, through the same trainer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ristune.dataset import convert

# Every image is in one split.
ROWS = {"train": slice(0, 1200), "val": slice(1200, 1500), "test": slice(1500, None)}


def write_digits(uri: str, scratch: Path, rows: dict[str, slice] = ROWS, seed: int = 0) -> None:
    """Write scikit-learn's 1797 images as a dataset, by way of Parquet files in a scratch folder."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    # The images lie writer by writer, in nearly the same order of digits each.
    order = np.random.default_rng(seed).permutation(len(digits.target))
    for split, part in rows.items():
        chosen = order[part]
        images = (digits.images[chosen, None] / 16).astype(np.float32)
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
        labels = digits.target[chosen].astype(np.int64)
        schema = pa.schema(
            [
                pa.field("image", tensors.type),
                pa.field("label", pa.int64(), metadata={"role": "label"}),
                pa.field("sample_id", pa.int64(), metadata={"role": "id"}),
            ]
        )
        table = pa.table({"image": tensors, "label": labels, "sample_id": chosen}, schema=schema)
        (scratch / split).mkdir(parents=True)
        pq.write_table(table, scratch / split / "digits.parquet")
    assert convert.main([str(scratch), uri]) == 0


class _Network(nn.Module):
    """Two convolutions and a linear layer: images [B, 1, 8, 8] to scores [B, 10]."""

    def __init__(self, width: int, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, out, stride in ((1, width, 1), (width, 2 * width, 2)):
            # The mean that a norm subtracts takes a bias with it.
            layers.append(nn.Conv2d(channels, out, 3, stride, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(out), nn.ReLU()] if batch_norm else [nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(32 * width, 10))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        scores: Tensor = self.layers(batch["image"])
        return scores


class DigitsTask:
    """Which digit it is; labels are smoothed in the loss, never in the metrics."""

    def __init__(self, width: int, dropout: float, batch_norm: bool, label_smoothing: float) -> None:
        self.network = _Network(width, dropout, batch_norm)
        self.label_smoothing = label_smoothing

    def loss(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        smoothed = F.cross_entropy(output, batch["label"], label_smoothing=self.label_smoothing)
        return {"cross_entropy": smoothed}

    def metrics(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            "error": (output.argmax(-1) != batch["label"]).to(torch.float32),
            "nll": F.cross_entropy(output, batch["label"], reduction="none"),
        }
