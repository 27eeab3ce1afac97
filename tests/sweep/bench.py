"""A searcher on a study in memory, for the tests of what it is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from ristune.config import Config
from ristune.sweep.journal import FILE, Journal
from ristune.sweep.sampler import create_study
from ristune.sweep.search import StudySearch
from ristune.sweep.space import Choices, Parameter, Range, Space

SPACE = Space(
    {"optimizer.lr": Parameter(Range(1e-4, 1e-1, log=True)), "task.width": Parameter(Choices((4, 16)))}
)
CEILING = 1e6


class Bench:
    """A searcher on a study in memory, and its journal."""

    def __init__(self, config: Config, folder: Path, limit: int = 10, space: Space = SPACE) -> None:
        self.study = create_study("bench", config.sweep)
        self.config = config
        self.journal = Journal(folder / FILE)
        self.search = StudySearch(
            space, self.study, config.sweep, limit, CEILING, self.journal.append, self.journal.history
        )

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
    return {"epoch": epoch, "objective": objective, "best_epoch": best, "status": status, "reason": ""}


MakeBench = Callable[..., Bench]


def failed(reason: str, certain: bool = False) -> dict[str, Any]:
    return {**record(CEILING, 0, "failed", 0), "reason": reason, "certain": certain}
