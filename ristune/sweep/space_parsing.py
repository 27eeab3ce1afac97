"""A space as it is written in YAML, and what is wrong with it: everything is found before any trial."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ristune.config import Config
from ristune.errors import InputError
from ristune.overrides import check_value, value_at
from ristune.sweep.constraints import paths_of
from ristune.sweep.distribution import Range
from ristune.sweep.space import Parameter, Space, ask, draw
from ristune.sweep.space_entries import read_entry, settings_for

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
# The one key of a space that is no path.
CONSTRAINTS = "constraints"
# Random points on which constraints are tried, and how many must do: where one does not, another is drawn.
DRAWS, LEAST = 1000, 10


def parse_space(config: Config) -> Space:
    """The distributions of the group `space`, every one checked against the configuration.

    Raises:
        InputError: on an empty space, an unknown or closed path, a bad distribution, condition or constraint,
            or a bound or choice that the configuration would refuse as a value.
    """
    _check_objective(config)
    entries, constraints = _split(config.space)
    for path in entries:
        _check_path(config, path)
    parameters = _parameters(entries)
    for path, parameter in parameters.items():
        _check_values(config, path, parameter, parameters)
    read = [path for text in constraints for path in paths_of(text)]
    fixed = {path: _fixed(config, path) for path in read if path not in parameters}
    # Where a searched value is inactive, its value in the configuration stands.
    resolved = config.resolved()
    fixed |= {path: value_at(resolved, path) for path in read if path in parameters}
    space = Space(parameters, constraints, fixed)
    _check_feasible(space)
    return space


def read_space(entries: Mapping[str, Any]) -> Space:
    """A space that is of no configuration: the same form, and names are free.

    Args:
        entries: by name, `{"low": 1e-4, "high": 1e-1, "log": True}` or `{"choices": [...]}`, with `when` as
            in YAML; `constraints` may read these names alone.

    Raises:
        InputError: on an empty space, or a bad distribution, condition or constraint.
    """
    written, constraints = _split(entries)
    parameters = _parameters(written)
    for text in constraints:
        for path in paths_of(text):
            if path not in parameters:
                raise _unknown(text, path, list(parameters), "it must be of names that are searched")
    space = Space(parameters, constraints)
    _check_feasible(space)
    return space


def _split(entries: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What is searched, and the constraints."""
    searched = {str(path): entry for path, entry in entries.items() if path != CONSTRAINTS}
    if not searched:
        raise InputError("space", {}, "it must search at least one path", "choose a space: space=NAME")
    constraints = entries.get(CONSTRAINTS)
    if constraints is None:
        return searched, ()
    if not isinstance(constraints, Sequence) or isinstance(constraints, str):
        raise InputError("space: constraints", constraints, "it must be a list of texts", "write ['a <= b']")
    for text in constraints:
        if not isinstance(text, str):
            raise InputError("space: constraints", text, "it must be a text", "put it in quotes: 'a <= b'")
    return searched, tuple(constraints)


def _parameters(entries: Mapping[str, Any]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for path, entry in entries.items():
        found[path] = read_entry(path, entry, found, frozenset(entries) - set(found))
    return found


def _check_objective(config: Config) -> None:
    if config.training.objective != config.task["objective"]:
        raise InputError(
            "training.objective",
            config.training.objective,
            f"a sweep minimises the task's own objective ({config.task['objective']}): "
            "a searched value may enter another metric",
            "drop the override, or change the task's YAML",
        )


def _check_path(config: Config, path: str) -> None:
    if path in CLOSED_PATHS or f"{path}.".startswith(CLOSED_GROUPS):
        raise InputError(
            "space",
            path,
            "a trial may not search it: it is of the data, the objective, the budget or the sweep itself",
            "set it for the whole sweep: PATH=VALUE",
        )
    remedy = _remedy_if_unknown(config, path)
    if remedy:
        raise InputError("space", path, "it is not in the config", remedy)


def _remedy_if_unknown(config: Config, path: str) -> str:
    try:
        check_value(config.source, path, None)
    except InputError as error:
        # With a value of None, a path that is there is refused for its kind alone.
        if error.name == "override":
            return error.remedy
    return ""


def _check_values(
    config: Config, path: str, parameter: Parameter, parameters: Mapping[str, Parameter]
) -> None:
    """Ask the configuration whether it takes the values, where they are searched."""
    distribution = parameter.distribution
    if isinstance(distribution, Range) and distribution.integer and distribution.step is None:
        _refuse_integers_for_a_number(config.source, path, distribution)
    settings = {parent: values[0] for parent, values in settings_for(parameter.when, parameters).items()}
    for value in distribution.extremes:
        try:
            config.with_values({**settings, path: value})
        except InputError as error:
            raise InputError(f"space: {path}", value, error.rule, "correct the space") from error


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


def _fixed(config: Config, path: str) -> Any:
    """The value of a path that a constraint reads and nobody searches."""
    text = next(text for text in _split(config.space)[1] if path in paths_of(text))
    remedy = "it is of the space itself" if path.startswith("space.") else _remedy_if_unknown(config, path)
    if remedy:
        raise InputError("space: constraints", text, f"{path!r} is not in the config", remedy)
    written = value_at(config.source, path)
    if isinstance(written, Mapping):
        raise InputError("space: constraints", text, f"{path!r} is a group of values", "name one of them")
    if "${" in str(written):
        # Its value would follow a searched one without a word.
        rule = f"{path!r} only refers to another value ({written})"
        raise InputError("space: constraints", text, rule, "name what it refers to")
    return value_at(config.resolved(), path)


def _unknown(text: str, path: str, known: list[str], rule: str) -> InputError:
    close = difflib.get_close_matches(path, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return InputError("space: constraints", text, f"{rule}, and {path!r} is none", remedy)


def _check_feasible(space: Space) -> None:
    """Try the constraints on random points: what is no truth value, or hardly ever true, is refused."""
    rng = np.random.default_rng(0)
    left = [draw(space, rng) for _ in range(DRAWS)] if space.constraints else []
    for text in space.constraints:
        outcomes = [(values, ask(space, text, values)) for values in left]
        for values, outcome in outcomes:
            if outcome is not None and outcome.mistaken:
                rule = f"it must be true or false, and at {_shown(space, text, values)} {outcome.fault}"
                raise InputError("space: constraints", text, rule, "compare values of one kind")
        left = [values for values, outcome in outcomes if outcome is None or outcome.holds]
        if len(left) < LEAST:
            faults = sorted({o.fault for _, o in outcomes if o is not None and o.fault})
            cause = f" ({faults[0]})" if faults else ""
            rule = f"{len(left)} of {DRAWS} random points satisfy it and those before it{cause}"
            raise InputError("space: constraints", text, rule, "loosen it, or narrow what it reads")


def _shown(space: Space, text: str, values: Mapping[str, Any]) -> str:
    known = {**space.fixed, **values}
    return ", ".join(f"{path}={known[path]!r}" for path in paths_of(text) if path in known)
