"""One entry of a space as it is written in YAML: a distribution, and when it is searched."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from ristune.errors import InputError
from ristune.sweep.distribution import Choices, Distribution, Range, Scalar, same
from ristune.sweep.space import Parameter

RANGE_KEYS = frozenset({"low", "high", "log", "step"})


def read_entry(path: str, entry: Any, before: Mapping[str, Parameter], after: frozenset[str]) -> Parameter:
    """A searched value as written.

    Args:
        path: of the value.
        entry: `{low, high[, log][, step][, when]}` or `{choices[, when]}`.
        before: what comes before it in the space; a condition may be on these.
        after: the paths that come after it, and its own.

    Raises:
        InputError: on a bad distribution, or a condition that can never be met.
    """
    if not isinstance(entry, Mapping) or ("choices" in entry) == bool(RANGE_KEYS & set(entry)):
        raise InputError(
            f"space: {path}",
            entry,
            "it must be {low, high[, log][, step][, when]} or {choices[, when]}",
            "correct its YAML",
        )
    written = {key: value for key, value in entry.items() if key != "when"}
    distribution = _choices(path, written) if "choices" in written else _range(path, written)
    if "when" not in entry:
        return Parameter(distribution)
    when = _when(path, entry["when"], before, after)
    _never_met(path, when, before)
    return Parameter(distribution, when)


def settings_for(when: Mapping[str, tuple[Scalar, ...]], before: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values of other paths for which a condition is met, in the order of the space.

    Args:
        when: the condition.
        before: what comes before it in the space.

    Returns:
        By path, those values of it that meet the condition and the conditions it depends on; none if it is
        never met.
    """
    allowed: dict[str, tuple[Scalar, ...]] = {}
    pending = [when]
    while pending:
        for path, values in pending.pop().items():
            there = allowed.get(path, values)
            allowed[path] = tuple(v for v in there if any(same(v, each) for each in values))
            pending.append(before[path].when)
    return {path: allowed[path] for path in before if path in allowed}


def _choices(path: str, entry: Mapping[str, Any]) -> Choices:
    values = entry["choices"]
    unknown = sorted(set(entry) - {"choices"})
    if unknown:
        raise InputError(
            f"space: {path}", unknown, "beside choices there may be `when` and no more", "take it out"
        )
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
        known = ", ".join(sorted(RANGE_KEYS | {"when"}))
        raise InputError(f"space: {path}", unknown[0], f"a range knows {known}", "correct the name")
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


def _when(
    path: str, written: Any, before: Mapping[str, Parameter], after: frozenset[str]
) -> dict[str, tuple[Scalar, ...]]:
    name = f"space: {path}.when"
    if not isinstance(written, Mapping) or not written:
        raise InputError(
            name, written, "it must be {PATH: VALUE} or {PATH: [VALUE, ...]}", "correct its YAML"
        )
    return {
        str(parent): _allowed(name, str(parent), given, before, after) for parent, given in written.items()
    }


def _allowed(
    name: str, parent: str, given: Any, before: Mapping[str, Parameter], after: frozenset[str]
) -> tuple[Scalar, ...]:
    """The values of a path for which another is searched."""
    if parent in after:
        rule = "a value is searched by what was drawn before it, and this comes later or is itself"
        raise InputError(name, parent, rule, "move it before, and let no two wait for each other")
    if parent not in before:
        close = difflib.get_close_matches(parent, before, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "search it too, or take the condition out"
        raise InputError(name, parent, "it must be a searched path that comes before", remedy)
    distribution: Distribution = before[parent].distribution
    if isinstance(distribution, Range) and not distribution.integer:
        rule = "a condition must be on choices or integers: of numbers no single one is drawn"
        raise InputError(name, parent, rule, f"search {parent} by choices")
    values = tuple(given) if isinstance(given, list) else (given,)
    for value in values:
        if distribution.refusal(value):
            rule = f"{parent} never takes it: {distribution.refusal(value)}"
            raise InputError(name, value, rule, "name a value that is searched")
    if not values:
        raise InputError(name, given, f"{parent} must have one value or more", "name one")
    return values


def _never_met(path: str, when: Mapping[str, tuple[Scalar, ...]], before: Mapping[str, Parameter]) -> None:
    for parent, values in settings_for(when, before).items():
        if not values:
            written = {key: list(value) for key, value in when.items()}
            rule = f"it is never met: {parent} must have other values for what it depends on"
            raise InputError(f"space: {path}.when", written, rule, "correct the conditions")
