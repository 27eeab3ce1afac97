"""A small simulator with one column of every kind, for the tests of this room."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ristune.data.columns import Column

COLUMNS = (
    Column("wave", "<f4", (3, 2), "V", "input"),
    Column("channel", "<f2", (5,), "1", "label"),
    Column("code", "|u1", (4,), "1", "input"),
    Column("power", "<f8", (), "W", "label"),
    Column("bits", "|u1", (), "1", "scalar"),
    Column("gain", "<f2", (), "1", "scalar"),
    Column("index", "<i4", (), "1", "scalar"),
    Column("sample_id", "<i8", (), "1", "id"),
)
CODEBOOK = (Column("phase", "<f4", (6,), "rad", "input"), Column("size", "<i4", (), "1", "scalar"))


class Drawing:
    """Draws every column at random; `draws` counts the calls."""

    name = "drawing"
    version = "1"
    columns = COLUMNS

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.draws = 0

    def parameters(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def tables(self) -> dict[str, Any]:
        phase = np.linspace(0, 1, 18).reshape(3, 6).astype("<f4")
        return {"codebook": (CODEBOOK, {"phase": phase, "size": np.arange(3, dtype="<i4")})}

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        self.draws += 1
        return {
            "wave": (self.scale * rng.normal(size=(rows, 3, 2))).astype("<f4"),
            "channel": rng.normal(size=(rows, 5)).astype("<f2"),
            "code": rng.integers(0, 256, (rows, 4)).astype("|u1"),
            "power": rng.normal(size=rows),
            "bits": rng.integers(0, 256, rows).astype("|u1"),
            "gain": rng.normal(size=rows).astype("<f2"),
            "index": rng.integers(0, 3, rows).astype("<i4"),
            "sample_id": rng.integers(0, 2**62, rows),
        }


class Wide(Drawing):
    """Narrow columns of every kind between two wide ones."""

    columns = (
        Column("first", "<f2", (600,), "1", "input"),
        *COLUMNS,
        Column("last", "<f4", (300,), "1", "label"),
    )

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        more = {
            "first": rng.normal(size=(rows, 600)).astype("<f2"),
            "last": rng.random((rows, 300), np.float32),
        }
        return {**super().draw(rows, rng), **more}


def draw(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(Drawing().draw(rows, np.random.default_rng(seed)))


def files(root: Path) -> dict[str, bytes]:
    """All files below a folder by their relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
