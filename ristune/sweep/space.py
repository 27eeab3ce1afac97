"""The search space: one distribution for each searched path of the configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from ristune.config import Config
from ristune.errors import InputError
from ristune.overrides import check_value, value_at

Scalar = bool | int | float | str | None

# What a trial may not search: what would change the data, the objective, the budget or the sweep itself.
CLOSED_GROUPS = ("sweep.", "space.", "tracking.", "simulator.")
CLOSED_PATHS = (
    "data.uri",
    "data.val_limit",
    "output",
    "task.name",
    "task.objective",
    "training.objective",
    "training.ceiling",
    "training.epochs",
    "training.device",
    # Trials share weights' seed and sample order, so that they are compared in pairs.
    "seed",
)
RANGE_KEYS = frozenset({"low", "high", "log", "step"})


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

    def describe(self) -> str:
        """The distribution in words."""
        kind = "integer" if self.integer else "number"
        spacing = ", log" if self.log else f", step {self.step}" if self.step is not None else ""
        return f"{kind} from {self.low} to {self.high}{spacing}"


@dataclass(frozen=True)
class Choices:
    """One of several values, in no order."""

    values: tuple[Scalar, ...]

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        """Every value, for none stands for another."""
        return self.values

    def describe(self) -> str:
        """The distribution in words."""
        return "one of " + ", ".join(str(value) for value in self.values)


Space = dict[str, Range | Choices]


def parse_space(config: Config) -> Space:
    """The distributions of the group `space`, every one checked against the configuration.

    Raises:
        InputError: on an empty space, an unknown or closed path, a bad distribution, or a bound or choice
            that the configuration would refuse as a value.
    """
    if not config.space:
        raise InputError("space", {}, "it must search at least one path", "choose a space: space=NAME")
    if config.training.objective != config.task["objective"]:
        raise InputError(
            "training.objective",
            config.training.objective,
            f"a sweep minimises the task's own objective ({config.task['objective']}): "
            "a searched value may enter another metric",
            "drop the override, or change the task's YAML",
        )
    return {str(path): _parse(config, str(path), entry) for path, entry in config.space.items()}


def suggest(space: Space, trial: optuna.Trial) -> dict[str, Scalar]:
    """One value for each path, drawn by Optuna's sampler.

    Args:
        space: as parsed.
        trial: a trial that Optuna was asked for.
    """
    return {path: _suggest(path, distribution, trial) for path, distribution in space.items()}


def distributions(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    """The space as Optuna describes it."""
    return {path: _distribution(distribution) for path, distribution in space.items()}


def _suggest(path: str, distribution: Range | Choices, trial: optuna.Trial) -> Scalar:
    if isinstance(distribution, Choices):
        return trial.suggest_categorical(path, distribution.values)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.integer:
        return trial.suggest_int(path, int(low), int(high), step=int(step or 1), log=distribution.log)
    return trial.suggest_float(path, low, high, step=step, log=distribution.log)


def _distribution(distribution: Range | Choices) -> optuna.distributions.BaseDistribution:
    if isinstance(distribution, Choices):
        return optuna.distributions.CategoricalDistribution(distribution.values)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.integer:
        whole = int(step or 1)
        return optuna.distributions.IntDistribution(int(low), int(high), log=distribution.log, step=whole)
    return optuna.distributions.FloatDistribution(low, high, log=distribution.log, step=step)


def _parse(config: Config, path: str, entry: Any) -> Range | Choices:
    _check_path(config, path)
    if not isinstance(entry, Mapping) or ("choices" in entry) == bool(RANGE_KEYS & set(entry)):
        raise InputError(
            f"space: {path}", entry, "it must be {low, high[, log][, step]} or {choices}", "correct its YAML"
        )
    distribution = _choices(path, entry) if "choices" in entry else _range(path, entry)
    if isinstance(distribution, Range) and distribution.integer and distribution.step is None:
        _refuse_integers_for_a_number(config.source, path, distribution)
    for value in distribution.extremes:
        try:
            config.with_values({path: value})
        except InputError as error:
            raise InputError(f"space: {path}", value, error.rule, "correct the space") from error
    return distribution


def _check_path(config: Config, path: str) -> None:
    if path in CLOSED_PATHS or f"{path}.".startswith(CLOSED_GROUPS):
        raise InputError(
            "space",
            path,
            "a trial may not search it: it is of the data, the objective, the budget or the sweep itself",
            "set it for the whole sweep: PATH=VALUE",
        )
    try:
        check_value(config.source, path, None)
    except InputError as error:
        # With a value of None, a path that is there is refused for its kind alone.
        if error.name == "override":
            raise InputError("space", path, "it is not in the config", error.remedy) from error


def _refuse_integers_for_a_number(source: Mapping[str, Any], path: str, distribution: Range) -> None:
    """A dropout from 0 to 1 would be drawn as 0 or 1: silence would hide it."""
    node = value_at(source, path)
    if isinstance(node, float):
        raise InputError(
            f"space: {path}",
            [distribution.low, distribution.high],
            f"the path holds a number ({node}), and integer bounds draw integers only",
            f"write {float(distribution.low)} and {float(distribution.high)}, or add step: 1",
        )


def _choices(path: str, entry: Mapping[str, Any]) -> Choices:
    values = entry["choices"]
    unknown = sorted(set(entry) - {"choices"})
    if unknown:
        raise InputError(f"space: {path}", unknown, "beside choices there may be nothing", "take it out")
    if not isinstance(values, list) or not values:
        raise InputError(f"space: {path}", values, "choices must be a list of one or more", "write [a, b]")
    for value in values:
        if not (value is None or isinstance(value, bool | int | float | str)):
            raise InputError(
                f"space: {path}",
                value,
                "a choice must be text, a number, a truth value or null",
                "search its parts",
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"space: {path}", value, "a choice must be finite", "take it out")
    for index, value in enumerate(values):
        # 1, 1.0 and true are one value to a sampler.
        if value in values[:index]:
            raise InputError(f"space: {path}", value, "every choice must differ", "name it once")
    return Choices(tuple(values))


def _range(path: str, entry: Mapping[str, Any]) -> Range:
    unknown = sorted(set(entry) - RANGE_KEYS)
    if unknown:
        raise InputError(
            f"space: {path}", unknown[0], f"a range knows {', '.join(sorted(RANGE_KEYS))}", "correct the name"
        )
    for key in ("low", "high", "step"):
        value = entry.get(key)
        if key == "step" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"space: {path}.{key}", value, "it must be a finite number", f"give {key}")
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"space: {path}.log", log, "it must be true or false", "correct it")
    low, high, step = entry["low"], entry["high"], entry.get("step")
    if not low < high:
        raise InputError(f"space: {path}", [low, high], "low must be below high", "correct the bounds")
    if log and low <= 0:
        raise InputError(f"space: {path}.low", low, "a logarithmic range must begin above 0", "raise low")
    if log and step is not None:
        raise InputError(f"space: {path}.step", step, "log and step exclude each other", "drop one")
    integer = isinstance(low, int) and isinstance(high, int)
    if step is not None:
        _check_step(path, low, high, step, integer)
    if integer:
        return Range(low, high, log, step)
    return Range(float(low), float(high), log, None if step is None else float(step))


def _check_step(path: str, low: float, high: float, step: float, integer: bool) -> None:
    if step <= 0:
        raise InputError(f"space: {path}.step", step, "it must be above 0", "correct it")
    if integer and not isinstance(step, int):
        raise InputError(
            f"space: {path}.step", step, "a range of integers takes an integer", "write low as LOW.0"
        )
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-9 * max(1.0, steps):
        raise InputError(
            f"space: {path}.step",
            step,
            f"high must be a whole number of steps above low ({low})",
            "move high",
        )
