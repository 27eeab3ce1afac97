"""The search space: what is searched, what of it in one trial, and which points are of it."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

from ristune.sweep.constraints import Outcome, evaluate, paths_of
from ristune.sweep.distribution import Choices as Choices
from ristune.sweep.distribution import Distribution, as_optuna, same, suggest_one
from ristune.sweep.distribution import Range as Range
from ristune.sweep.distribution import Scalar as Scalar

# A finite space with more combinations is not gone through to find those few that its constraints leave.
COMBINATIONS = 100_000


@dataclass(frozen=True)
class Parameter:
    """A searched value.

    Attributes:
        distribution: what it is drawn from.
        when: values of paths before it for which it is searched: one of those of every path. Empty: always.
    """

    distribution: Distribution
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    def condition(self) -> str:
        """When it is searched, in words; empty if always."""
        return " and ".join(
            f"{path} is {' or '.join(str(value) for value in values)}" for path, values in self.when.items()
        )


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        parameters: by path, in the order in which they are drawn.
        constraints: expressions over paths that every trial must satisfy.
        fixed: values of the other paths that constraints read, and of searched ones where they are inactive.
    """

    parameters: Mapping[str, Parameter]
    constraints: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def conditional(self) -> bool:
        """Whether trials differ in what is searched in them."""
        return any(parameter.when for parameter in self.parameters.values())


def suggest(space: Space, trial: optuna.Trial) -> dict[str, Scalar]:
    """One value for each path that is active, drawn by Optuna's sampler; constraints are not looked at.

    Args:
        space: as parsed.
        trial: a trial that Optuna was asked for.
    """
    values: dict[str, Scalar] = {}
    for path, parameter in space.parameters.items():
        if is_active(space, path, values):
            values[path] = suggest_one(path, parameter.distribution, trial)
    return values


def draw(space: Space, rng: np.random.Generator) -> dict[str, Scalar]:
    """One random value for each path that is active; constraints are not looked at.

    Args:
        space: as parsed.
        rng: the source of randomness.
    """
    values: dict[str, Scalar] = {}
    for path, parameter in space.parameters.items():
        if is_active(space, path, values):
            values[path] = parameter.distribution.draw(rng)
    return values


def active_distributions(
    space: Space, values: Mapping[str, Scalar]
) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distributions of some values, as Optuna describes them.

    Args:
        space: as parsed.
        values: of a trial, by path.
    """
    return {path: as_optuna(space.parameters[path].distribution) for path in values}


def is_active(space: Space, path: str, values: Mapping[str, Scalar]) -> bool | None:
    """Whether a path is searched at a point; None if values that decide it are not given.

    Args:
        space: as parsed.
        path: one of its paths.
        values: of the point, by path.
    """
    undecided = False
    for parent, allowed in space.parameters[path].when.items():
        if parent not in values:
            # Not given: inactive itself, or left open in a partial point.
            if is_active(space, parent, values) is False:
                return False
            undecided = True
        elif not any(same(values[parent], value) for value in allowed):
            return False
    return None if undecided else True


def ask(space: Space, constraint: str, values: Mapping[str, Scalar]) -> Outcome | None:
    """What a constraint gives at a point; None if it reads a value that is not given.

    Args:
        space: as parsed.
        constraint: one of its own.
        values: of the point, by path. Where a path is inactive, its value in the configuration stands.
    """
    known: dict[str, Any] = {}
    for path in paths_of(constraint):
        if path in values:
            known[path] = values[path]
        elif path in space.parameters and is_active(space, path, values) is not False:
            return None
        elif path in space.fixed:
            known[path] = space.fixed[path]
        else:
            return None
    return evaluate(constraint, known)


def violated(space: Space, values: Mapping[str, Scalar]) -> str:
    """The first constraint that some values break; empty if there is none.

    A constraint that cannot be computed (it divides by zero) is broken; one that reads a value that is not
    given is not.

    Args:
        space: as parsed.
        values: of a trial, by path.
    """
    for constraint in space.constraints:
        outcome = ask(space, constraint, values)
        if outcome is not None and not outcome.holds:
            return constraint
    return ""


def check_point(space: Space, values: Mapping[str, Any]) -> str:
    """Why a point, or a part of one, is not of the space; empty if it is.

    Args:
        space: as parsed.
        values: by path.
    """
    for path, value in values.items():
        if path not in space.parameters:
            close = difflib.get_close_matches(path, space.parameters, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return f"{path} is not searched{hint}"
        reason = space.parameters[path].distribution.refusal(value)
        if reason:
            return f"{path}: got {value!r}; {reason}"
    for path in values:
        if is_active(space, path, values) is False:
            return f"{path} is searched only when {_condition(space, path, values)}"
    broken = violated(space, values)
    return f"it breaks the constraint {broken!r}" if broken else ""


def points(space: Space, limit: int) -> list[dict[str, Scalar]] | None:
    """Every point of the space, if it is finite and has few; constraints hold in all of them.

    Args:
        space: as parsed.
        limit: how many at most.

    Returns:
        The points in the order of the space; None if there are more, or too many combinations to try.
    """
    if any(parameter.distribution.count is None for parameter in space.parameters.values()):
        return None
    found: list[dict[str, Scalar]] = []
    for tried, values in enumerate(_combinations(space, list(space.parameters), {})):
        if tried >= max(COMBINATIONS, limit):
            return None
        if not violated(space, values):
            found.append(values)
        if len(found) > limit:
            return None
    return found


def short_names(paths: list[str]) -> dict[str, str]:
    """The shortest endings of the paths that still tell them apart: `lr` for `optimizer.lr`."""
    names: dict[str, str] = {}
    for path in paths:
        parts = path.split(".")
        endings = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        names[path] = next(
            (e for e in endings if not any(p != path and f".{p}".endswith(f".{e}") for p in paths)), path
        )
    return names


def _condition(space: Space, path: str, values: Mapping[str, Scalar]) -> str:
    """The condition that is not met: its own, or that of a path on which it depends."""
    for parent in space.parameters[path].when:
        if parent not in values and is_active(space, parent, values) is False:
            return _condition(space, parent, values)
    return space.parameters[path].condition()


def _combinations(space: Space, paths: list[str], values: dict[str, Scalar]) -> Iterator[dict[str, Scalar]]:
    if not paths:
        yield values
        return
    path, rest = paths[0], paths[1:]
    if not is_active(space, path, values):
        yield from _combinations(space, rest, values)
        return
    for value in space.parameters[path].distribution.values:
        yield from _combinations(space, rest, {**values, path: value})
