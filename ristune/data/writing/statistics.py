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
# Squares of numbers beyond these would overflow or vanish.
SMALL, LARGE = 1e-100, 1e100


@dataclass(frozen=True)
class Moments:
    """What must be kept of some numbers to add others to them later.

    Attributes:
        count: how many.
        mean: their mean.
        std: the standard deviation from that mean, of the population.
        min: the smallest.
        max: the largest.
    """

    count: int
    mean: float
    std: float
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

    The update of Chan, Golub and LeVeque: sums of squares would cancel where the mean is large. It is of
    standard deviations, for squares are beyond the range of numbers where these are not.
    """
    count = a.count + b.count
    of_a, of_b = a.count / count, b.count / count
    low, high = min(a.min, b.min), max(a.max, b.max)
    # A whole difference may be beyond the range of numbers.
    half = b.mean / 2 - a.mean / 2
    within = math.hypot(a.std * math.sqrt(of_a), b.std * math.sqrt(of_b))
    std = math.hypot(within, 2 * math.sqrt(of_a * of_b) * half)
    return Moments(count, a.mean + half * of_b + half * of_b, _bounded(std, low, high), low, high)


def summarise(parts: Iterable[Moments]) -> Statistics:
    """The statistics of all parts together, the standard deviation that of the population.

    Args:
        parts: at least one; their order decides the last bits.
    """
    total = reduce(merge, parts)
    return Statistics(total.mean, total.std, total.min, total.max)


def _block_moments(block: NDArray[np.float64]) -> Moments:
    low, high = float(block.min()), float(block.max())
    largest = max(abs(low), abs(high))
    # By a power of two, which changes no digit.
    exponent = 0 if SMALL < largest < LARGE else math.frexp(largest)[1]
    scaled = np.ldexp(block, -exponent) if exponent else block
    mean = float(scaled.mean())
    std = math.sqrt(float(np.square(scaled - mean).mean()))
    std = _bounded(std, math.ldexp(low, -exponent), math.ldexp(high, -exponent))
    return Moments(block.size, math.ldexp(mean, exponent), math.ldexp(std, exponent), low, high)


def _bounded(std: float, low: float, high: float) -> float:
    """A deviation is at most half the range: the last digit must not lead beyond the range of numbers."""
    return min(std, high / 2 - low / 2)
