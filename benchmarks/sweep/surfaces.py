"""Objective functions that stand for a training: cheap, with a known best."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ristune.sweep.space import Scalar, Space
from ristune.sweep.space_parsing import read_space

Values = Mapping[str, Scalar]

# Hartmann's function of six variables (Dixon and Szego, 1978).
_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


@dataclass(frozen=True)
class Surface:
    """What is searched, and what a whole trial comes to.

    Attributes:
        name: for tables.
        space: as read.
        value: without noise, to be minimised.
        best: the lowest value.
        noise: standard deviation of what a trial reports.
    """

    name: str
    space: Space
    value: Callable[[Values], float]
    best: float
    noise: float


def hartmann() -> Surface:
    """Six numbers, no noise."""
    unit = {f"x{n}": {"low": 0.0, "high": 1.0} for n in range(6)}
    return Surface("Hartmann-6", read_space(unit), _hartmann, -3.32237, 0.0)


def training() -> Surface:
    """Eight values as a training has them, rates by their logarithm, sizes and choices; with noise."""
    space: dict[str, Any] = {
        "lr": {"low": 1e-5, "high": 1e-1, "log": True},
        "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
        "dropout": {"low": 0.0, "high": 0.7},
        "warmup": {"low": 0.0, "high": 0.3},
        "width": {"low": 16, "high": 256, "step": 16},
        "blocks": {"low": 1, "high": 8},
        "batch_size": {"choices": [32, 64, 128, 256]},
        "activation": {"choices": ["relu", "gelu", "silu", "tanh"]},
    }
    return Surface("training", read_space(space), _training, 0.1, 0.005)


def _hartmann(values: Values) -> float:
    x = np.array([values[f"x{n}"] for n in range(6)], dtype=float)
    return -float(_ALPHA @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


def _training(values: Values) -> float:
    number = {name: float(v) for name, v in values.items() if isinstance(v, int | float)}
    # The best rate falls with the width and rises with the batch, as it does in trainings.
    best_rate = -2.6 - 0.5 * math.log2(number["width"] / 64) / 2 + 0.5 * math.log10(number["batch_size"] / 64)
    rate = math.log10(number["lr"]) - best_rate
    capacity = math.log2(number["width"] * number["blocks"] / 640)
    regular = math.log10(number["weight_decay"]) + 3 - 0.5 * capacity
    cost = 0.1 * (rate**2 if rate < 0 else 2 * rate**2) + 0.02 * capacity**2 + 0.01 * regular**2
    cost += 0.15 * (number["dropout"] - 0.15) ** 2 + 0.2 * (number["warmup"] - 0.08) ** 2
    cost += {"relu": 0.01, "gelu": 0.0, "silu": 0.002, "tanh": 0.04}[str(values["activation"])]
    cost += 0.01 * abs(math.log2(number["batch_size"] / 64))
    return 0.1 + cost
