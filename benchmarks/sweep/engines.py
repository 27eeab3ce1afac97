"""What proposes and stops in a comparison: our classes and Ray's own, called as Ray's loop calls them.

Nothing of Ray runs. A *method* is named by `stock`, Ray's OptunaSearch and ASHAScheduler as they come, or
by `SAMPLER[+SCHEDULER][,PATH=VALUE...]`, such as `tpe+asha` or `tpe+asha,sweep.grace=2`: our searcher with
a sampler, with our scheduler or without any, and with values of the configuration.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from ristune.config import Config
from ristune.sweep.distribution import Scalar, as_optuna
from ristune.sweep.journal import FILE, Journal
from ristune.sweep.scheduler import GuardedASHA
from ristune.sweep.search import JournaledSearch
from ristune.sweep.space_parsing import parse_space
from ristune.sweep_config import SAMPLERS, SCHEDULERS
from ristune.training.record import Record, Status

STOCK, NONE = "stock", "none"
# More than any search gets through.
TRIALS = 100_000


class Engine(Protocol):
    """Proposes trials, and says after each epoch whether one has come to its end."""

    def ask(self, name: str) -> dict[str, Scalar]:
        """The values of a new trial."""
        ...

    def report(self, name: str, record: Record) -> bool:
        """Take an epoch's record; whether the trial has ended with it or is to be stopped."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


@dataclass(frozen=True)
class Method:
    """How trials are proposed and stopped.

    Attributes:
        name: as given.
        stock: whether by Ray's own classes.
        overrides: of the configuration.
    """

    name: str
    stock: bool
    overrides: tuple[str, ...]


def parse_method(name: str) -> Method:
    """A method by its name.

    Raises:
        ValueError: if there is none of the name.
    """
    first, *overrides = name.split(",")
    sampler, _, scheduler = first.partition("+")
    if first == STOCK:
        return Method(name, True, tuple(overrides))
    scheduler = scheduler or NONE
    if sampler not in SAMPLERS or scheduler not in SCHEDULERS:
        known = f"SAMPLER of {', '.join(SAMPLERS)}, SCHEDULER of {', '.join(SCHEDULERS)}"
        raise ValueError(f"{name!r} is neither {STOCK} nor SAMPLER[+SCHEDULER], {known}")
    return Method(name, False, (f"sweep.sampler={sampler}", f"sweep.scheduler={scheduler}", *overrides))


def make_engine(method: Method, config: Config, folder: Path) -> Engine:
    """The engine of a method.

    Args:
        method: of the comparison.
        config: with the space, and the seed of the search.
        folder: for a journal; new.
    """
    return Stock(config) if method.stock else Ours(config, folder)


def ours(config: Config, journal: Journal) -> tuple[JournaledSearch, GuardedASHA]:
    """Our searcher and scheduler on an empty journal: the one place that knows their constructors."""
    search = JournaledSearch(parse_space(config), journal, config.sweep, TRIALS, config.training.ceiling)
    return search, GuardedASHA(search, config.training.epochs)


class Ours:
    """Our searcher and scheduler."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._journal = Journal(folder / FILE)
        self._search, self._scheduler = ours(config, self._journal)
        self._trials: dict[str, Any] = {}

    def ask(self, name: str) -> dict[str, Scalar]:
        request = self._search.suggest(name)
        if not isinstance(request, dict):
            raise RuntimeError(f"the searcher proposed {request!r} in the place of a trial")
        self._trials[name] = SimpleNamespace(trial_id=name, config=request)
        self._scheduler.on_trial_add(None, self._trials[name])
        values: dict[str, Scalar] = dict(request["values"])
        return values

    def report(self, name: str, record: Record) -> bool:
        trial = self._trials[name]
        result = {
            "epoch": record.epoch,
            "objective": record.objective,
            "best_epoch": record.best_epoch,
            "status": str(record.status),
            "reason": record.reason,
            "record": record.flat(),
            "warnings": [],
        }
        # Ray shows a scheduler no report that ends its trial; then it tells both that it has ended.
        ends = record.status is not Status.RUNNING
        if not ends and self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE:
            self._search.on_trial_result(name, result)
            return False
        self._scheduler.on_trial_complete(None, trial, result)
        self._search.on_trial_complete(name, result)
        return True

    def close(self) -> None:
        self._journal.close()


class Stock:
    """Ray's OptunaSearch and ASHAScheduler with their defaults; a script reports every epoch's value."""

    def __init__(self, config: Config) -> None:
        # ASHA draws a trial's bracket from the global generator, also where there is but one.
        np.random.seed(config.sweep.seed)
        parameters = parse_space(config).parameters
        space = {path: as_optuna(parameter.distribution) for path, parameter in parameters.items()}
        self._search = OptunaSearch(space, metric="loss", mode="min", seed=config.sweep.seed)
        self._scheduler = ASHAScheduler(metric="loss", mode="min", max_t=config.training.epochs)
        self._trials: dict[str, Any] = {}

    def ask(self, name: str) -> dict[str, Scalar]:
        values: dict[str, Scalar] = self._search.suggest(name)
        self._trials[name] = SimpleNamespace(trial_id=name, config=values)
        self._scheduler.on_trial_add(None, self._trials[name])
        return values

    def report(self, name: str, record: Record) -> bool:
        trial = self._trials[name]
        value = math.nan if record.value is None else record.value
        result = {"loss": value, "training_iteration": record.epoch, "timestamp": time.time()}
        stops = self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
        if not stops:
            self._search.on_trial_result(name, result)
        # A function that returns before `max_t`, as one that diverged, ends with its last report.
        if not stops and record.status is Status.RUNNING:
            return False
        self._scheduler.on_trial_complete(None, trial, result)
        self._search.on_trial_complete(name, result)
        return True

    def close(self) -> None:
        """There is nothing open."""
