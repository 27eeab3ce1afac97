"""How one value is drawn: from a range of numbers, or among choices."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import optuna

Scalar = bool | int | float | str | None


def same(one: Scalar, other: Scalar) -> bool:
    """Whether two values are one; 1 and 1.0 are, 1 and `true` are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: lower bound; an int in a range of integers.
        high: upper bound, of the same type.
        log: whether the logarithm is uniform.
        step: grid spacing from `low`; None for every value.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def integer(self) -> bool:
        """Whether only integers are drawn."""
        return isinstance(self.low, int)

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        """The values that stand for all when the configuration is asked whether it takes them."""
        return (self.low, self.high)

    @property
    def count(self) -> int | None:
        """How many values there are; None if they are not countable."""
        spacing = self._spacing
        return None if spacing is None else round((self.high - self.low) / spacing) + 1

    @property
    def values(self) -> Iterator[Scalar]:
        """Every value, from the lowest on; none if they are not countable."""
        return (self._at(index) for index in range(self.count or 0))

    def draw(self, rng: np.random.Generator) -> Scalar:
        """A random value.

        Args:
            rng: the source of randomness.
        """
        if self.count is not None and not self.log:
            return self._at(int(rng.integers(self.count)))
        # The lowest and the highest integer have as much room around them as any other.
        half = 0.5 if self.integer else 0.0
        bounds = (self.low - half, self.high + half)
        if self.log:
            drawn = math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))
        else:
            drawn = float(rng.uniform(*bounds))
        drawn = min(max(drawn, self.low), self.high)
        return round(drawn) if self.integer else drawn

    def refusal(self, value: object) -> str:
        """Why a value is none of these; empty if it is one."""
        if isinstance(value, bool) or not isinstance(value, int if self.integer else int | float):
            return "it must be an integer" if self.integer else "it must be a number"
        assert isinstance(value, int | float)
        if not self.low <= value <= self.high:
            return f"it must be from {self.low} to {self.high}"
        if self._spacing is not None:
            steps = (value - self.low) / self._spacing
            # As Optuna has it: what it drew itself must not be refused.
            if abs(steps - round(steps)) >= 1e-8:
                return f"it must be a whole number of steps of {self._spacing} above {self.low}"
        return ""

    def describe(self) -> str:
        """The distribution in words."""
        kind = "integer" if self.integer else "number"
        spacing = ", log" if self.log else f", step {self.step}" if self.step is not None else ""
        return f"{kind} from {self.low} to {self.high}{spacing}"

    @property
    def _spacing(self) -> int | float | None:
        return 1 if self.integer and self.step is None else self.step

    def _at(self, index: int) -> Scalar:
        # In Optuna's own words, so that the last bits agree.
        return min(index * (self._spacing or 1) + self.low, self.high)


@dataclass(frozen=True)
class Choices:
    """One of several values, in no order."""

    values: tuple[Scalar, ...]

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        """Every value, for none stands for another."""
        return self.values

    @property
    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def draw(self, rng: np.random.Generator) -> Scalar:
        """A random value.

        Args:
            rng: the source of randomness.
        """
        return self.values[int(rng.integers(len(self.values)))]

    def refusal(self, value: object) -> str:
        """Why a value is none of these; empty if it is one."""
        for choice in self.values:
            # The configuration takes an integer for a number, and no number for an integer.
            kind = int | float if isinstance(choice, float) else type(choice)
            if isinstance(value, kind) and same(value, choice):
                return ""
        return f"it must be {self.describe()}"

    def describe(self) -> str:
        """The distribution in words."""
        return "one of " + ", ".join(str(value) for value in self.values)


Distribution = Range | Choices


def suggest_one(path: str, distribution: Distribution, trial: optuna.Trial) -> Scalar:
    """A value drawn by Optuna's sampler.

    Args:
        path: of the value, which is its name in the study.
        distribution: what it is drawn from.
        trial: that Optuna was asked for.
    """
    if isinstance(distribution, Choices):
        return trial.suggest_categorical(path, distribution.values)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.integer:
        return trial.suggest_int(path, int(low), int(high), step=int(step or 1), log=distribution.log)
    return trial.suggest_float(path, low, high, step=step, log=distribution.log)


def as_optuna(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    """A distribution as Optuna describes it."""
    if isinstance(distribution, Choices):
        return optuna.distributions.CategoricalDistribution(distribution.values)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.integer:
        whole = int(step or 1)
        return optuna.distributions.IntDistribution(int(low), int(high), log=distribution.log, step=whole)
    return optuna.distributions.FloatDistribution(low, high, log=distribution.log, step=step)
