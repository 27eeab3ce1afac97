import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ristune.errors import InputError
from ristune.storage.access import Storage, open_storage
from ristune.sweep import shelf as shelf_module
from ristune.sweep.shelf import Shelf, StoreFailure
from ristune.sweep.transfer import whole
from ristune.training import checkpoint


class Bench:
    """A trial's folder, and the shelf of an attempt at it."""

    def __init__(self, store: Storage, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.warnings: list[str] = []

    def shelf(self) -> Shelf:
        self.folder.mkdir(parents=True, exist_ok=True)
        return Shelf(self.store, self.folder, "lock", self.warnings.append)

    def keep(self, name: str, epoch: int = 1) -> None:
        network = nn.Linear(1, 1)
        nn.init.constant_(network.weight, epoch)
        checkpoint.save(self.folder / name, network, {"epoch": epoch})

    def states(self) -> list[str]:
        return [name.partition(".")[0] for name in whole(self.store, "resume")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(open_storage(str(tmp_path / "home")), tmp_path / "machine" / "0000")


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> Bench:
    """The same trial on another machine."""
    return Bench(bench.store, tmp_path / "other" / "0000")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_states_go_up_while_the_training_goes_on(bench: Bench) -> None:
    with bench.shelf():
        bench.keep("resume/000002-000000000")
        assert eventually(lambda: bench.states() == ["000002-000000000"])
        bench.keep("resume/000003-000000000")
        (bench.folder / "resume" / "000002-000000000").rename(bench.folder / "gone")
        assert eventually(lambda: bench.states() == ["000003-000000000"])
    assert bench.warnings == []


def test_another_machine_goes_on_from_the_newest_state_that_the_journal_knows(
    bench: Bench, other: Bench
) -> None:
    with bench.shelf() as shelf:
        for epoch in (2, 3, 4):
            bench.keep(f"resume/{epoch:06d}-000000000", epoch)
        shelf.drain()
    second = other.shelf()
    # Two epochs are in the journal: a state in the third knows no more.
    second.fetch(2)
    assert [path.name for path in (other.folder / "resume").iterdir()] == ["000003-000000000"]
    weights = checkpoint.load(other.folder / "resume" / "000003-000000000").tensors(checkpoint.WEIGHTS)
    assert torch.equal(weights["weight"], torch.tensor([[3.0]]))


def test_what_an_attempt_before_left_on_the_machine_is_not_gone_on_with(bench: Bench) -> None:
    bench.shelf()
    bench.keep("resume/000009-000000000")
    bench.keep("best", 8)
    bench.shelf().fetch(20)
    assert not (bench.folder / "resume").exists() and not (bench.folder / "best").exists()


def test_the_best_epoch_takes_the_place_of_the_one_before(bench: Bench) -> None:
    with bench.shelf() as shelf:
        bench.keep("best", 1)
        shelf.drain()
        first = whole(bench.store, "best")
        bench.keep("best", 4)
        shelf.drain()
        shelf.drain()
    assert [name.partition(".")[0] for name in (*first, *whole(bench.store, "best"))] == ["000001", "000004"]


def test_a_worker_that_was_thought_lost_drops_nothing_of_the_one_after_it(bench: Bench, other: Bench) -> None:
    with bench.shelf() as lost:
        bench.keep("resume/000002-000000000")
        lost.drain()
        with other.shelf() as after:
            after.fetch(1)
            after.drain()
            bench.keep("resume/000003-000000000")
            (bench.folder / "resume" / "000002-000000000").rename(bench.folder / "gone")
            lost.drain()
            assert bench.states() == ["000002-000000000", "000003-000000000"]


def test_a_checkpoint_that_was_not_put_whole_is_none(bench: Bench, other: Bench) -> None:
    with bench.shelf() as shelf:
        for epoch in (2, 3):
            bench.keep(f"resume/{epoch:06d}-000000000", epoch)
        shelf.drain()
    [name] = [name for name in bench.store.list("resume") if name.startswith("000003")]
    bench.store.remove_tree(f"resume/{name}/{checkpoint.CONTENTS}")
    other.shelf().fetch(9)
    assert [path.name for path in (other.folder / "resume").iterdir()] == ["000002-000000000"]


def test_all_that_a_trial_leaves_goes_up_and_the_machine_keeps_its_lock_alone(bench: Bench) -> None:
    with bench.shelf():
        (bench.folder / "lock").touch()
        (bench.folder / "log.txt").write_text("said")
        (bench.folder / "wandb" / "run").mkdir(parents=True)
        (bench.folder / "wandb" / "run" / "x.wandb").write_bytes(b"1")
        bench.keep("best", 3)
    assert [path.name for path in bench.folder.iterdir()] == ["lock"]
    assert bench.store.read("log.txt") == b"said" and bench.store.read("wandb/run/x.wandb") == b"1"
    assert not bench.store.exists("lock") and len(whole(bench.store, "best")) == 1


@pytest.fixture
def down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Makes the store refuse what is written to it."""
    write = type(bench.store).write_atomic
    state = [False]

    def refusing(store: Storage, path: str, data: bytes) -> None:
        if state[0]:
            raise InputError("output", path, "the store does not answer", "see to it")
        write(store, path, data)

    monkeypatch.setattr(type(bench.store), "write_atomic", refusing)
    monkeypatch.setattr(shelf_module, "PERIOD", 0.05)

    def turn(value: bool) -> None:
        state[0] = value

    yield turn


def test_a_store_that_is_down_for_a_while_is_tried_again(bench: Bench, down: Callable[[bool], None]) -> None:
    with bench.shelf():
        down(True)
        bench.keep("resume/000002-000000000")
        assert eventually(lambda: bool(bench.warnings))
        assert "a checkpoint is not in the store yet" in bench.warnings[0]
        down(False)
        assert eventually(lambda: bench.states() == ["000002-000000000"])


def test_a_trial_does_not_end_well_while_its_best_epoch_is_on_its_machine_alone(
    bench: Bench, down: Callable[[bool], None]
) -> None:
    with bench.shelf() as shelf:
        down(True)
        bench.keep("best", 2)
        with pytest.raises(StoreFailure, match="the store does not answer"):
            shelf.drain()
    assert (bench.folder / "best").is_dir()
    assert "files of the trial stay on this machine" in bench.warnings[-1]
