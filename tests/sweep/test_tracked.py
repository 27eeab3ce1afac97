"""Trials of one worker, tracked by W&B itself."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ristune.config import Config
from ristune.sweep.worker import TrialWorker
from tests.test_tracking import services, written


@pytest.fixture
def worker(toy: Callable[..., Config], dataset: Path, tmp_path: Path) -> Iterator[TrialWorker]:
    config = toy(f"data.uri={dataset}", "training.epochs=3", "tracking.mode=offline")
    worker = TrialWorker.__new__(TrialWorker)
    first = {"trial": "0000", "values": {"task.width": 4}, "epoch": 0}
    worker.setup(first, base=config, sweep="s", place=str(tmp_path / "s"), threads=1)
    yield worker
    worker.cleanup()
    # A worker freezes what it finds, for it has a process of its own.
    gc.unfreeze()


def test_trials_share_a_service_each_is_whole_when_it_is_done_and_nothing_outlives_the_worker(
    worker: TrialWorker, tmp_path: Path
) -> None:
    seen = []
    for number in range(3):
        if number:
            worker.reset_config({"trial": f"{number:04d}", "values": {"task.width": 4}, "epoch": 0})
        while not worker.step()["done"]:
            seen += services()
        kinds = [r.WhichOneof("record_type") for r in written(tmp_path / "s" / "trials" / f"{number:04d}")]
        assert (kinds.count("history"), kinds[-1]) == (3, "exit")
    assert len(set(seen)) == 1
    worker.cleanup()
    assert not services()
