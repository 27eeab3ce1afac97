"""A searcher on a study in memory, for the tests of what it is told."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ristune.config import Config
from ristune.sweep.journal import FILE, Journal
from ristune.sweep.search import JournaledSearch
from ristune.sweep.space import Choices, Parameter, Range, Space

SPACE = Space(
    {"optimizer.lr": Parameter(Range(1e-4, 1e-1, log=True)), "task.width": Parameter(Choices((4, 16)))}
)
CEILING = 1e6


class Everything:
    """All trials of a study: its own list shows what its sampler sees."""

    def __init__(self, study: optuna.Study) -> None:
        self._storage = study._storage

    @property
    def trials(self) -> list[FrozenTrial]:
        found: list[FrozenTrial] = []
        with suppress(KeyError):
            while True:
                found.append(self._storage.get_trial(len(found)))
        return found


class Bench:
    """A searcher on a study in memory, and its journal."""

    def __init__(self, config: Config, folder: Path, limit: int = 10, space: Space = SPACE) -> None:
        self.config = config
        self.journal = Journal(folder / FILE)
        self.search = JournaledSearch(space, self.journal, config.sweep, limit, CEILING)
        self.study = Everything(self.search.study)

    def ask(self, *names: str) -> list[Any]:
        return [self.search.suggest(name) for name in names]

    @property
    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.trials]

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(trial.id, str(trial.state)) for trial in self.journal.history.trials.values()]


def record(
    objective: float, epoch: int = 1, status: str = "running", best_epoch: int | None = None
) -> dict[str, Any]:
    best = epoch if best_epoch is None else best_epoch
    row = {"epoch": epoch, "objective": objective, "best_epoch": best, "status": status, "reason": ""}
    return {**row, "record": row, "warnings": []}


MakeBench = Callable[..., Bench]


def failed(reason: str, certain: bool = False) -> dict[str, Any]:
    return {**record(CEILING, 0, "failed", 0), "record": None, "reason": reason, "certain": certain}


# What Ray says of an actor that raised, that was killed, and whose machine is gone.
RAISED = "ray::TrialWorker.train() (pid=1)\n{}"
KILLED = "The actor died unexpectedly before finishing this task."
NODE_LOST = "The actor died because its node has died."
