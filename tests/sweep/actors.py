"""A worker in the tests' own process, called as Ray calls its actor."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ristune.config import Config
from ristune.sweep.worker import TrialWorker
from ristune.training.record import CLOCKS


class Actor:
    """A worker in this process, called as Ray calls its actor."""

    def __init__(self, config: Config, folder: Path, threads: int = 1) -> None:
        self.base = config
        self.folder = folder
        self.worker = TrialWorker.__new__(TrialWorker)
        self.setup = dict(base=config, sweep="s", place=str(folder), threads=threads)
        self.fresh = True

    def run(self, trial: str, epochs: int | None = None, **values: Any) -> list[dict[str, Any]]:
        results = []
        for result in self.steps(trial, **values):
            results.append(result)
            if len(results) == epochs:
                break
        return results

    def steps(self, trial: str, **values: Any) -> Iterator[dict[str, Any]]:
        """The results of a trial, one after the other; a double underline in a name is a path's dot."""
        request = {
            "trial": trial,
            "epoch": 0,
            "values": {path.replace("__", "."): value for path, value in values.items()},
        }
        if self.fresh:
            self.worker.setup(request, **self.setup)
            self.fresh = False
        else:
            assert self.worker.reset_config(request)
        done = False
        while not done:
            result = self.worker.step()
            done = result["done"]
            yield result


def values_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, without what differs from run to run."""
    return [{k: v for k, v in result["record"].items() if k not in CLOCKS} for result in results]


MakeActor = Callable[..., Actor]
