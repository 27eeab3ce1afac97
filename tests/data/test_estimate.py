import shutil
from collections import namedtuple

import numpy as np
import pytest

from ristune.data.writing import estimate as module
from ristune.data.writing.estimate import check_space, estimate
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.storage.access import open_storage
from tests.data.drawing import Drawing

Usage = namedtuple("Usage", "total used free")


def test_the_size_that_is_told_is_the_size_that_is_written(tmp_path):
    source = Simulated(Drawing(), {"train": 3000, "val": 500}, 0, 1000)
    expected = estimate(source, source.parts())
    manifest = write_dataset(str(tmp_path / "d"), source)
    written = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    assert (expected.samples, expected.shards) == (3500, 4)
    assert expected.size == pytest.approx(written, rel=0.01)
    assert expected.sample_bytes == pytest.approx(written / 3500, rel=0.01)


def test_several_processes_share_the_time():
    source = Simulated(Drawing(), {"train": 3000}, 0)
    expected = estimate(source, source.parts())
    assert 0 < expected.seconds(4) == pytest.approx(expected.seconds(1) / 4)


def test_a_slow_simulator_is_asked_for_few_samples(monkeypatch):
    monkeypatch.setattr(module, "ENOUGH", 0.0)
    asked = []

    class Counting(Drawing):
        def draw(self, rows, rng):
            asked.append(rows)
            return super().draw(rows, rng)

    source = Simulated(Counting(), {"train": 3000}, 0)
    estimate(source, source.parts())
    assert asked == [8, 8]


def test_what_a_simulator_does_wrong_is_found_before_any_work():
    class Wrong(Drawing):
        def draw(self, rows, rng):
            return {**super().draw(rows, rng), "power": np.zeros(rows, "<f4")}

    source = Simulated(Wrong(), {"train": 3000}, 0)
    with pytest.raises(InputError, match="column 'power': got '<f4'; dtype <f8 is declared"):
        estimate(source, source.parts())


def test_the_free_space_is_that_of_the_disk_also_below_folders_that_do_not_exist(tmp_path, monkeypatch):
    asked = []

    def usage(path):
        asked.append(path)
        return Usage(100, 70, 30)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    storage = open_storage(str(tmp_path / "a" / "b"))
    assert storage.free_bytes() == 30
    assert asked == [tmp_path]
    check_space(storage, 30)
    rule = "space at .*/a/b: got '3e-08 GB'; the dataset takes 3.1e-08 GB, which must be free"
    with pytest.raises(InputError, match=rule):
        check_space(storage, 31)
