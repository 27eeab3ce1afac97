import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ristune.sweep import remains
from ristune.sweep.isolation import Baseline
from ristune.sweep.worker import WornOut
from tests.sweep import spoiling
from tests.sweep.actors import Actor, MakeActor, values_of

# What the toy's own warning would be turned into by pytest.
pytestmark = pytest.mark.filterwarnings("ignore:as libraries warn")


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """What a trial leaves in the tests' process is undone, as far as it can be."""
    before = Baseline()
    yield
    before.restore()
    spoiling.KEPT.clear()
    leave()


def leave() -> None:
    while spoiling.ENTERED:
        spoiling.ENTERED.pop().__exit__(None, None, None)


@pytest.fixture
def make(make_actor: MakeActor) -> Callable[[], Actor]:
    return lambda: make_actor("task=spoiling", "training.epochs=2")


def test_whatever_a_trial_does_to_its_process_the_next_one_is_as_in_a_new_one(make_actor: MakeActor) -> None:
    fresh = values_of(make_actor("task=spoiling", "training.epochs=1").run("0000"))
    used = make_actor("task=spoiling", "training.epochs=1")
    for number, spoil in enumerate(spoiling.RESTORED):
        # It may well fail by what it does.
        used.run(f"1{number:03d}", task__spoil=spoil)
        assert values_of(used.run(f"2{number:03d}")) == fresh, spoil


@pytest.mark.parametrize("spoil", list(spoiling.RESTORED))
def test_what_a_task_does_to_its_process_is_undone(spoil: str) -> None:
    before, frozen = Baseline(), gc.get_freeze_count()
    spoiling.RESTORED[spoil]()
    changed = [s.name for s, v in zip(before._switches, before._values, strict=True) if not _same(s, v)]
    assert bool(changed) == (spoil != "generators")
    assert before.restore() == ""
    assert gc.get_freeze_count() <= frozen


def _same(switch: Any, value: Any) -> bool:
    try:
        return bool(switch.read() == value)
    except RuntimeError:
        return False


def test_what_cannot_be_undone_costs_the_actor_and_not_the_next_trial(make: Callable[[], Actor]) -> None:
    for number, spoil in enumerate(spoiling.FINAL):
        used = make()
        used.run(f"000{number}", epochs=1, task__spoil=spoil)
        with pytest.raises(WornOut, match=spoil):
            used.run("0009")
        assert not (used.folder / "trials" / "0009").exists()
        leave()


def test_a_task_that_spoils_the_process_between_two_shares_fails_and_says_how(make_actor: MakeActor) -> None:
    actor = make_actor("task=spoiling", "training.epochs=1", "sweep.resource=data", "sweep.first_share=0.5")
    *_, last = actor.run("0000", task__spoil="TorchFunctionMode")
    assert last["status"] == "failed"
    assert "the task must leave the process as it was, and has changed: TorchFunctionMode" in last["reason"]


def test_a_share_is_trained_as_in_a_new_process(make_actor: MakeActor) -> None:
    task = ("task=spoiling", "training.epochs=1")
    shared = make_actor(*task, "sweep.resource=data", "sweep.first_share=0.5", "sweep.reduction=2")
    # From its first validation on a share is trained in what the task has made of the process.
    found = values_of(shared.run("0000", task__spoil="default dtype"))
    for record, share in zip(found, (0.5, 1.0), strict=True):
        [alone] = values_of(
            make_actor(*task, f"data.fraction={share}").run("0000", task__spoil="default dtype")
        )
        assert [record[k] for k in ("train/loss", "val/mse")] == [alone[k] for k in ("train/loss", "val/mse")]


def test_a_configuration_that_a_task_changes_in_place_is_its_own(make: Callable[[], Actor]) -> None:
    used = make()
    first, again = (values_of(used.run(name)) for name in ("0000", "0001"))
    assert first == again
    assert used.base.task["lists"] == [1, 2]
    assert used.base.source["task"]["lists"] == [1, 2]


def tensors() -> int:
    # Without a collection: that is the worker's to do.
    return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())


def test_nothing_of_a_trial_is_left_in_memory(make: Callable[[], Actor]) -> None:
    used = make()
    used.run("0000")
    before = tensors()
    used.run("0001", task__cycle=4)
    used.run("0002", task__cycle=4, task__fail=True)
    used.run("0003", task__explode=True)
    used.run("0004", epochs=1, task__cycle=4)
    used.run("0005", epochs=1, task__width=-1)
    used.worker.cleanup()
    assert tensors() == before


def test_memory_is_flat_over_many_trials(make: Callable[[], Actor]) -> None:
    used, sizes = make(), []
    for number in range(15):
        # Each leaves 8 MiB an epoch in a cycle: 240 MiB in all, if none of it came back.
        used.run(f"{number:04d}", task__cycle=8, task__width=4 + number, task__fail=number % 5 == 4)
        sizes.append(remains._anonymous())
    # The allocator keeps some of what it has freed, by default up to 64 MiB.
    assert max(sizes[3:]) - sizes[2] < 64 * spoiling.MIB


def test_memory_that_trials_keep_costs_the_actor_in_the_end(
    make: Callable[[], Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remains, "ALLOWED", 100 * spoiling.MIB)
    # What other tests have left in this process must not be freed in between.
    remains.collect()
    remains._trim()
    used, ended = make(), 0
    with pytest.raises(WornOut, match=r"its trials have left 1\d\d MiB of memory behind"):
        for number in range(9):
            # 32 MiB at each batch that is measured: three an epoch and trial.
            assert used.run(f"{number:04d}", epochs=1, task__keep=16)
            ended += 1
    assert 2 <= ended <= 6
    # What every trial finds again counts once.
    assert used.worker._worn


def test_a_cache_that_is_filled_once_costs_nothing(
    make: Callable[[], Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remains, "ALLOWED", 100 * spoiling.MIB)
    used = make()
    used.run("0000", epochs=1, task__keep=256)
    for number in range(3):
        assert used.run(f"000{number + 1}", epochs=1)


def test_a_task_is_built_from_the_seed_whatever_it_draws_with(make: Callable[[], Actor]) -> None:
    first = values_of(make().run("0000"))
    spoiling.RESTORED["generators"]()
    assert values_of(make().run("0000")) == first


def test_what_imports_made_is_left_out_of_collections_from_trial_to_trial(
    make: Callable[[], Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = make()
    used.run("0000", epochs=1)
    # Imported by the first trial, and so frozen between it and the second.
    monkeypatch.setitem(sys.modules, "imported_late", ModuleType("imported_late"))
    kept = []
    for number in range(3):
        used.run(f"000{number + 1}", epochs=1)
        used.worker.cleanup()
        kept.append(gc.get_freeze_count())
    assert min(kept) > 0.9 * max(kept) > 10_000


def test_warnings_filters_that_are_put_back_hold_at_once() -> None:
    before = Baseline()
    warnings.simplefilter("error")
    before.restore()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.warn("x", stacklevel=1)
    assert len(seen) == 1


def test_a_removed_working_directory_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Baseline()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert before.restore() == ""
