"""One search for a given training time: real trainings of the digits, by virtual workers of one process.

Each worker has a clock, which its epochs move on by the CPU time that they took in training and validation;
asking, building a network and measuring on the test split move none. The worker whose epoch ends first is
heard first, and an epoch that would end after the time is not heard: every method of a pair has the same
time. Each training has its own generators, put in place before each of its epochs: what comes of it hangs
on its values alone.
"""

import heapq
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from benchmarks.sweep.engines import Method, make_engine
from ristune.config import Config, compose
from ristune.data.opening import measured_stream
from ristune.training.record import Record, Status
from ristune.training.rng import RandomState
from ristune.training.validation import Validation
from ristune.trial import Trial, prepare
from tests.digits import write_digits

CONFIGS = Path(__file__).parents[2] / "tests" / "configs"
DIGITS = [
    *("task=digits", "space=digits_wide", "tracking.mode=disabled", "data.mode=cached"),
    *("training.device=cpu", "training.threads=1", "training.diagnostics=false"),
]
# Images are few, and what is compared is what validation and test say of them: these have the larger parts.
ROWS = {"train": slice(0, 600), "val": slice(600, 1100), "test": slice(1100, None)}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    """What all searches of a comparison share.

    Attributes:
        epochs: of a whole training.
        budget: seconds of training in a search, all workers together.
        workers: at once.
    """

    epochs: int
    budget: float
    workers: int


def write_dataset(folder: Path, seed: int) -> None:
    """The images of a seed, in its own split; nothing if they are there."""
    if not (folder / f"digits-{seed}").exists():
        with redirect_stdout(StringIO()):
            write_digits(str(folder / f"digits-{seed}"), folder / f"parquet-{seed}", ROWS, seed)


def configure(method: Method, seed: int, settings: Settings, folder: Path) -> Config:
    """The configuration of a search: its seed is that of weights, order of samples and sampler."""
    own = [
        *(f"seed={seed}", f"sweep.seed={seed}", f"training.epochs={settings.epochs}"),
        *(f"data.uri={folder}/digits-{seed}", f"data.cache={folder}/cache"),
    ]
    return compose([*DIGITS, *own, *method.overrides], [CONFIGS])


class Training:
    """One trial's training, an epoch at a time beside others in the same process."""

    def __init__(self, config: Config) -> None:
        self.trial: Trial = prepare(config, lambda line: None)
        self._records: Iterator[Record] = self.trial.run()
        self._random: RandomState | None = None

    def epoch(self) -> tuple[Record, float]:
        """Train and validate one epoch.

        Returns:
            Its record and the CPU seconds that it took.
        """
        if self._random is not None:
            self._random.restore(CPU)
        started = time.process_time()
        record = next(self._records)
        seconds = time.process_time() - started
        self._random = RandomState.capture(CPU)
        return record, seconds

    def test(self) -> dict[str, float]:
        """The task's metrics on the test split, by the network as it is now."""
        trial = self.trial
        stream = measured_stream(trial.config.data, trial.dataset, "test", 256, CPU)
        return Validation(trial.task, stream, trial.trainer.precision, CPU).run(trial.trainer.network)


@dataclass
class _Running:
    name: str
    training: Training
    record: Record


def run_search(method: Method, seed: int, settings: Settings, data: Path, scratch: Path) -> dict[str, Any]:
    """Search once.

    Args:
        method: which proposes and stops.
        seed: of the pair.
        settings: of the comparison.
        data: folder of the datasets.
        scratch: an empty folder.

    Returns:
        Plain values: who, how much was done, and `path`: every new best by validation with the seconds of
        training spent so far, and what that network says on validation and test.
    """
    config = configure(method, seed, settings, data)
    engine = make_engine(method, config, scratch)
    began, asking = time.perf_counter(), 0.0
    counts = {"trials": 0, "epochs": 0, "complete": 0, "diverged": 0}
    path: list[dict[str, Any]] = []
    # Workers by the end of the epoch that they are in; at first all are free.
    due: list[tuple[float, int, _Running | None]] = [(0.0, w, None) for w in range(settings.workers)]
    while due:
        clock, worker, running = heapq.heappop(due)
        if clock > settings.budget / settings.workers:
            continue
        if running is not None:
            record = running.record
            counts["epochs"] += 1
            counts["complete"] += record.status is Status.COMPLETE
            counts["diverged"] += record.status is Status.DIVERGED
            if record.improved and (not path or record.objective < path[-1]["val"]):
                path.append(_best(clock * settings.workers, running))
            if engine.report(running.name, record):
                running = None
        if running is None:
            asked, name = time.perf_counter(), f"trial-{counts['trials']}"
            values = engine.ask(name)
            asking += time.perf_counter() - asked
            counts["trials"] += 1
            training = Training(config.with_values(values))
        else:
            name, training = running.name, running.training
        record, seconds = training.epoch()
        heapq.heappush(due, (clock + seconds, worker, _Running(name, training, record)))
    engine.close()
    took = {"asking": round(asking, 3), "wall": round(time.perf_counter() - began, 3)}
    return {"method": method.name, "seed": seed, "settings": asdict(settings), **counts, **took, "path": path}


def _best(spent: float, running: _Running) -> dict[str, Any]:
    record, test = running.record, running.training.test()
    return {
        "spent": round(spent, 4),
        "trial": running.name,
        "epoch": record.epoch,
        "val": record.objective,
        "val_error": record.val["error"],
        "test": test["nll"],
        "test_error": test["error"],
    }
