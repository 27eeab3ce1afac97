"""Mean, spread and range of a column, gathered piece by piece in float64."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.manifest import Statistics

# Elements taken to float64 at a time: 8 MB, whatever the size of the column.
BLOCK = 2**20


@dataclass(frozen=True)
class Moments:
    """What must be kept of some numbers to add others to them later.

    Attributes:
        count: how many.
        mean: their mean.
        squares: the sum of squared deviations from that mean.
        min: the smallest.
        max: the largest.
    """

    count: int
    mean: float
    squares: float
    min: float
    max: float


def moments(array: NDArray[Any]) -> Moments:
    """The moments of all elements of an array.

    Args:
        array: at least one element, any shape, any real type.
    """
    flat = array.reshape(-1)
    blocks = (flat[start : start + BLOCK].astype(np.float64) for start in range(0, flat.size, BLOCK))
    return reduce(merge, (_block_moments(block) for block in blocks))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets of numbers together.

    The update of Chan, Golub and LeVeque: sums of squares would cancel where the mean is large.
    """
    count = a.count + b.count
    delta = b.mean - a.mean
    return Moments(
        count=count,
        mean=a.mean + delta * b.count / count,
        squares=a.squares + b.squares + delta**2 * a.count * b.count / count,
        min=min(a.min, b.min),
        max=max(a.max, b.max),
    )


def summarise(parts: Iterable[Moments]) -> Statistics:
    """The statistics of all parts together, the standard deviation that of the population.

    Args:
        parts: at least one; their order decides the last bits.
    """
    total = reduce(merge, parts)
    return Statistics(total.mean, math.sqrt(total.squares / total.count), total.min, total.max)


def _block_moments(block: NDArray[np.float64]) -> Moments:
    mean = float(block.mean())
    squares = float(np.square(block - mean).sum())
    return Moments(block.size, mean, squares, float(block.min()), float(block.max()))
