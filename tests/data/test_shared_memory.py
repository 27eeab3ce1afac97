"""The node's cache where it usually is, in shared memory, and with samples enough for huge pages."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ristune.data.cache import NodeCache
from ristune.data.columns import Column
from ristune.data.dataset import open_dataset
from ristune.data.huge import Collapsed
from ristune.data.kept import Kept
from ristune.data.places import SHARED_MEMORY, Place
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset

SPAWN = multiprocessing.get_context("spawn")
# Some megabytes a shard, no multiple of a page.
SHARDS, ROWS, WIDTH = 3, 1301, 1000


class Large:
    name, version = "large", "1"
    columns = (Column("wave", "<f4", (WIDTH,), "1", "input"), Column("sample_id", "<i8", (), "1", "id"))

    def parameters(self):
        return {}

    def tables(self):
        return {}

    def draw(self, rows, rng):
        return {"wave": rng.random((rows, WIDTH), "<f4"), "sample_id": rng.integers(0, 2**62, rows)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "d"
    write_dataset(str(folder), Simulated(Large(), {"train": SHARDS * ROWS}, 0, ROWS))
    return folder


@pytest.fixture
def place():
    if not SHARED_MEMORY.is_dir():
        pytest.skip("this system has no shared memory of that name")
    folder = SHARED_MEMORY / f"ristune-test-{os.getpid()}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def opened(root, place):
    cache = NodeCache((Place(Path(place), 10**9, "data.cache_memory_share"),), lambda line: None)
    return open_dataset(str(root), cache)


def same(root, place):
    found, expected = opened(root, place).split("train"), open_dataset(str(root)).split("train")
    return all(torch.equal(found[name], expected[name]) for name in expected)


def killed_after(root, place, shards):
    original, done = Kept.finish, []

    def finish(self, descriptor, index):
        original(self, descriptor, index)
        done.append(index)
        if len(done) == shards:
            os.kill(os.getpid(), signal.SIGKILL)

    Kept.finish = finish
    opened(root, place).resident("train", SHARDS * ROWS)


def test_all_of_a_split_is_right_and_what_it_takes_is_what_it_needs(root, place, monkeypatch):
    made, original = [], Collapsed.prepared

    def prepared(self, first, last):
        made.append(original(self, first, last))
        return made[-1]

    monkeypatch.setattr(Collapsed, "prepared", prepared)
    assert same(root, place)
    (rows,) = place.glob("*/train.rows")
    assert rows.stat().st_blocks * 512 == rows.stat().st_size
    if all(memory is None for memory in made):
        pytest.skip("this system makes no huge pages of shared memory")


@pytest.mark.parametrize("shards", [1, 2])
def test_what_a_killed_filler_finished_stays_as_it_was(root, place, shards):
    process = SPAWN.Process(target=killed_after, args=(root, place, shards))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert same(root, place)


@pytest.mark.parametrize("first", [1, ROWS, ROWS + 1, 2 * ROWS])
def test_what_is_fetched_later_leaves_the_first_samples_as_they_were(root, place, first):
    before = opened(root, place).resident("train", first).rows[:first].copy()
    assert same(root, place)
    assert np.array_equal(opened(root, place).resident("train", first).rows[:first], before)
