"""What a worker's collection of garbage looks at."""

import gc
import importlib
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ristune.config import Config
from ristune.sweep import worker as worker_module
from ristune.sweep.worker import TrialWorker

# What a trial of the toy task makes, and what Python makes of itself meanwhile.
FEW = 20_000


@pytest.fixture
def worker(toy: Callable[..., Config], dataset: Path, tmp_path: Path) -> Iterator[TrialWorker]:
    worker = TrialWorker.__new__(TrialWorker)
    config = toy(f"data.uri={dataset}", "training.epochs=1")
    worker.setup(_request(0), base=config, sweep="s", place=str(tmp_path / "s"), threads=1)
    yield worker
    worker.cleanup()
    # A worker freezes what it finds, for it has a process of its own.
    gc.unfreeze()


def _request(number: int) -> dict[str, Any]:
    return {"trial": f"{number:04d}", "values": {"task.width": 4}, "epoch": 0}


def test_what_a_trial_imports_is_looked_at_once(
    worker: TrialWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy_module.py").write_text("held = [[n] for n in range(100_000)]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    worker.step()
    importlib.import_module("heavy_module")
    worker.reset_config(_request(1))
    assert len(gc.get_objects()) < FEW
    monkeypatch.delitem(sys.modules, "heavy_module")


def test_nothing_of_a_trial_stays_because_it_is_not_looked_at_any_more(
    worker: TrialWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    original = worker_module.prepare

    def prepare(config: Config, report: Callable[[str], None]) -> Any:
        trial = original(config, report)
        # As a task may: what refers to itself is freed by a collection alone.
        vars(trial.trainer)["itself"] = trial.trainer
        made.append(weakref.ref(trial.trainer))
        return trial

    monkeypatch.setattr(worker_module, "prepare", prepare)
    for number in range(1, 4):
        # Without a record that ends it, as a trial that is stopped.
        worker.reset_config(_request(number))
        worker.step()
    worker.reset_config(_request(4))
    assert len(made) == 3
    assert [ref() for ref in made] == [None] * 3
