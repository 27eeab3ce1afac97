"""Whether a search would search: every searched value changes the trial, and none the measure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Fault, Outcome, attempt, failed, passed, skipped, some
from ristune.errors import InputError
from ristune.sweep.space import Choices, Range, Scalar, Space, draw, is_active, violated
from ristune.sweep.space_entries import settings_for
from ristune.sweep.space_parsing import parse_space

# Enough windows for a warm-up to differ; epochs are those of the short training.
ROWS, VAL, BATCH = 48, 16, 8
# How many times more than the same values again a change must be, where a device is not exact.
NOISE = 10.0
# Random points among which one is looked for that satisfies the constraints.
DRAWS = 1000

# What only long trainings show.
LATE = ("optimizer.plateau_factor", "optimizer.plateau_patience")
# What a tiny trial has its own value of.
DOCTORS = ("training.batch_size", "data.train_limit")

Fingerprint = dict[str, Tensor]


def space_of(bench: Bench) -> Space | None:
    """The space; None if the default one does not fit the task, and no other was asked for.

    Raises:
        InputError: if a space was asked for and is refused.
    """
    try:
        return parse_space(bench.full)
    except InputError:
        if any(text.startswith("space") for text in bench.full.overrides):
            raise
        return None


def searched_values(bench: Bench) -> Outcome:
    """Each searched path, at its lowest and highest value where it is active, gives another trial."""
    space = space_of(bench)
    if space is None:
        return skipped(NO_SPACE)
    tiny = _tiny(bench, middle(space))
    noise = distance(_fingerprint(bench, tiny), _fingerprint(bench, tiny))
    changes: dict[str, float] = {}
    faults, untried = [], []
    for path, parameter in space.parameters.items():
        low, high = _ends(bench, path, parameter.distribution)
        if low == high or path in LATE:
            untried.append(path)
            continue
        fault = f"{path}: {low} and {high} give the same trial"
        for values in _settings(space, path, (low, high)):
            found = _change(bench, _tiny(bench, values), path, low, high)
            if isinstance(found, str):
                fault = found
                break
            if found > NOISE * noise:
                fault, changes[path] = "", found
                break
        faults += [fault] if fault else []
    left = f"; not to be seen in so short a trial: {', '.join(untried)}" if untried else ""
    if faults:
        return failed(
            f"{len(faults)} of {len(space.parameters)} paths: {some(faults)}{left}",
            "connect the value to what it is meant for, or take its path out of the space",
        )
    if not changes:
        return skipped(f"no path could be tried{left}")
    least = min(changes, key=lambda path: changes[path])
    exact = f"; the same values twice differ by {noise:.1g}" if noise else ""
    return passed(f"{len(changes)} paths; the least change is {changes[least]:.1g}, of {least}{exact}{left}")


NO_SPACE = "the default space is not this task's: give space=NAME"


def middle(space: Space, given: Mapping[str, Scalar] | None = None) -> dict[str, Scalar]:
    """One value for each path that is active, from the middle of its distribution.

    Args:
        space: as parsed.
        given: values that are to be others, by path.
    """
    values: dict[str, Scalar] = {}
    for path, parameter in space.parameters.items():
        if is_active(space, path, values):
            known = given is not None and path in given
            values[path] = given[path] if given and known else _middle(parameter.distribution)
    return values


def condition(space: Space, path: str) -> dict[str, Scalar]:
    """The values of other paths under which a path is searched: the first of each that will do."""
    settings = settings_for(space.parameters[path].when, space.parameters)
    return {parent: values[0] for parent, values in settings.items()}


def distance(one: Fingerprint, other: Fingerprint) -> float:
    """The largest relative difference of two trials' figures; infinite where they do not even correspond."""
    if set(one) != set(other):
        return math.inf
    return max((_relative(one[name], other[name]) for name in one), default=0.0)


def _middle(distribution: Range | Choices) -> Scalar:
    if isinstance(distribution, Choices):
        return distribution.values[len(distribution.values) // 2]
    low, high = distribution.low, distribution.high
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if distribution.step is not None:
        value = low + round((value - low) / distribution.step) * distribution.step
    return round(value) if distribution.integer else value


def _settings(space: Space, path: str, ends: tuple[Scalar, Scalar]) -> Iterator[dict[str, Scalar]]:
    """The other values for a path: of the middle, then of other choices: it may count under one of them only.

    What is searched for some values of the path alone is left out, for it would differ with the path.
    """
    needed = condition(space, path)
    tried = [needed]
    for other, parameter in space.parameters.items():
        if other != path and isinstance(parameter.distribution, Choices) and other not in DOCTORS:
            tried += [{**needed, other: value} for value in parameter.distribution.values]
    found = [values for given in tried if (values := _others(space, path, ends, given)) is not None]
    if not found:
        # Where no middle satisfies the constraints, a random point may.
        rng = np.random.default_rng(0)
        drawn = (_others(space, path, ends, {**draw(space, rng), **needed}) for _ in range(DRAWS))
        found = list(islice((values for values in drawn if values is not None), 1))
    # No point has both ends: a constraint is the search's, and the trial takes them all the same.
    yield from found or [middle(space, needed)]


def _others(
    space: Space, path: str, ends: tuple[Scalar, Scalar], given: Mapping[str, Scalar]
) -> dict[str, Scalar] | None:
    """The other values of a point with each of the ends; None if that is not of the space."""
    one, other = (middle(space, {**given, path: end}) for end in ends)
    if path not in one or violated(space, one) or violated(space, other):
        return None
    children = {
        p for p, each in space.parameters.items() if path in settings_for(each.when, space.parameters)
    }
    return {p: value for p, value in one.items() if p not in children}


def _ends(bench: Bench, path: str, distribution: Range | Choices) -> tuple[Scalar, Scalar]:
    """The first and the last value; a number of samples is at most what there is."""
    low, high = distribution.extremes[0], distribution.extremes[-1]
    if path == "data.train_limit":
        low, high = (_within(value, bench.dataset.rows("train")) for value in (low, high))
    return low, high


def _within(value: Scalar, rows: int) -> int:
    return min(value, rows) if isinstance(value, int) else rows


def _change(bench: Bench, tiny: Mapping[str, Any], path: str, *ends: Scalar) -> float | str:
    """How far apart the trials of a path's two ends are, or why there is none."""
    more = {**tiny, **_rows_for(bench, path, ends)}
    prints = []
    for value in ends:
        found = attempt(partial(_fingerprint, bench, {**more, path: value}))
        if isinstance(found, Fault):
            return f"{path}={value}: {found.text}"
        prints.append(found)
    return distance(*prints)


def _tiny(bench: Bench, values: Mapping[str, Scalar]) -> dict[str, Any]:
    untrained = bench.untrained()
    limit = bench.config.data.train_limit or untrained.train.rows
    # A filter leaves out some of them, so that more are needed.
    rows = min(limit, math.ceil(ROWS * limit / untrained.train.rows))
    return {
        **values,
        "data.train_limit": rows,
        "data.val_limit": min(VAL, untrained.val.rows),
        "training.batch_size": min(BATCH, max(2, rows // 4)),
        "training.curriculum": _unfiltered(bench.config.training.curriculum),
        "training.diagnostics": False,
    }


def _unfiltered(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages without their filters, which might leave none of so few samples."""
    kept = []
    for stage in stages:
        values = {path: value for path, value in stage.get("set", {}).items() if path != "data.filter"}
        kept.append({**stage, "set": values})
    return kept


def _rows_for(bench: Bench, path: str, ends: Sequence[Scalar]) -> dict[str, Any]:
    """More samples where the path is the batch size: two sizes beyond all samples are one."""
    sizes = [value for value in ends if isinstance(value, int)]
    if path != "training.batch_size" or not sizes:
        return {}
    return {"data.train_limit": min(bench.dataset.rows("train"), max(ROWS, 2 * min(sizes)))}


def _fingerprint(bench: Bench, values: Mapping[str, Any]) -> Fingerprint:
    """What a trial did: losses and metrics by epoch, and the weights it ended with."""
    trial = bench.fresh(values)
    found: Fingerprint = {}
    for record in trial.run():
        for group, means in (("train", record.train), ("val", record.val)):
            for name, value in means.items():
                found[f"{group}/{name} {record.epoch}"] = torch.tensor(value, dtype=torch.float64)
    for name, weight in trial.task.network.state_dict().items():
        found[f"weights/{name}"] = weight.detach().double().cpu()
    return found


def _relative(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    if torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan()):
        return 0.0
    difference = (one - other).abs().max().item()
    size = one.abs().max().item()
    return difference / size if math.isfinite(difference) and size else math.inf
