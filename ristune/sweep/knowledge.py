"""What a sweep knows before its first trial: points that the user gives, and trials of other sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ristune.config import Config, read_overrides
from ristune.errors import InputError
from ristune.overrides import value_at
from ristune.sweep import results
from ristune.sweep.finding import is_sweep
from ristune.sweep.history import History
from ristune.sweep.journal import Event
from ristune.sweep.space import Scalar, Space, check_point, is_active
from ristune.sweep.telling import FAIL

# What must be the same for an objective to mean the same; another dataset or length is the user's to judge.
_OBJECTIVE = ("task._target_", "task.objective", "training.objective")


@dataclass(frozen=True)
class Known:
    """Trials of another sweep that this one's sampler learns from.

    Attributes:
        source: folder of that sweep.
        trials: fields of the event `known`, one each.
        left_out: how many of its trials are not of this space.
    """

    source: str
    trials: tuple[dict[str, Any], ...]
    left_out: int


@dataclass(frozen=True)
class Knowledge:
    """Everything that a sweep is told before its first trial.

    Attributes:
        points: to be tried first.
        known: trials of other sweeps.
    """

    points: Sequence[Mapping[str, Scalar]] = ()
    known: Sequence[Known] = ()

    def events(self) -> list[tuple[Event, Mapping[str, Any]]]:
        """As the journal keeps it."""
        trials = [(Event.KNOWN, trial) for known in self.known for trial in known.trials]
        return [*trials, *((Event.ENQUEUED, {"values": point}) for point in self.points)]

    def describe(self) -> list[str]:
        """In words, a line each."""
        lines = [f"{len(self.points)} points come first"] if self.points else []
        for known in self.known:
            left = f"; {known.left_out} are not of this space" if known.left_out else ""
            lines.append(f"{len(known.trials)} trials of {known.source} are known{left}")
        return lines


def read_points(path: Path, space: Space) -> list[dict[str, Scalar]]:
    """Points to be tried first.

    Args:
        path: a `best.yaml`, or YAML with a mapping of values by path, or a list of such mappings; a point
            that leaves some of the space's paths out has them proposed.
        space: what is searched.

    Raises:
        InputError: if it cannot be read, or a point is not of the space.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        rule = f"it must be a YAML file ({' '.join(str(error).split())})"
        raise InputError("--enqueue", str(path), rule, "give the best.yaml of a sweep") from error
    if isinstance(content, Mapping) and "overrides" in content:
        given = read_overrides(content["overrides"])
        content = {name: value for name, value in given.items() if name in space.parameters}
    points = content if isinstance(content, list) else [content]
    for point in points:
        rule = "" if isinstance(point, Mapping) and point else "a point must be a mapping of values by path"
        rule = rule or check_point(space, point)
        if rule:
            raise InputError("--enqueue", point, f"{path}: {rule}", "correct it, or the space")
    return [dict(point) for point in points]


def read_known(directory: Path, space: Space, config: Config) -> Known:
    """The trials of another sweep, as far as this one's space has them.

    What was not searched there has the value that the configuration there gave it.

    Args:
        directory: of the other sweep; it may be running.
        space: what is searched here.
        config: of this sweep.

    Raises:
        InputError: if there is no sweep, or it had another objective.
    """
    if not is_sweep(directory):
        rule, remedy = "it must be the folder of a sweep", "`python -m ristune.sweep list` names all"
        raise InputError("--warm-start", str(directory), rule, remedy)
    history = results.load(directory)
    _check_objective(directory, history, config)
    told = [event for event in history.study if event["event"] == "told" and event["kind"] != FAIL]
    source = history.started["source"]
    trials = []
    for event in told:
        values = _values(space, history.trials[event["trial"]].values, source)
        active = [path for path in space.parameters if is_active(space, path, values)]
        if list(values) == active and not check_point(space, values):
            fields = {"trial": event["trial"], "value": event["value"], "feasible": event["feasible"]}
            trials.append({"source": str(directory), "values": values, **fields})
    return Known(str(directory), tuple(trials), len(told) - len(trials))


def _values(space: Space, searched: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's values in another space: those that are active there."""
    values: dict[str, Any] = {}
    for path in space.parameters:
        if not is_active(space, path, values):
            continue
        try:
            values[path] = searched[path] if path in searched else value_at(source, path)
        except KeyError:
            continue
    return values


def _check_objective(directory: Path, history: History, config: Config) -> None:
    theirs: Sequence[Any] = [_at(history.started.get("source", {}), path) for path in _OBJECTIVE]
    ours = [_at(config.source, path) for path in _OBJECTIVE]
    if theirs != ours:
        rule = f"its task and objective must be those of this sweep: {ours}, and are {theirs}"
        raise InputError("--warm-start", str(directory), rule, "leave it out")


def _at(source: Mapping[str, Any], path: str) -> Any:
    try:
        return value_at(source, path)
    except KeyError:
        return None
