import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from ristune.data.dataset import open_dataset
from ristune.data.manifest import parse
from ristune.data.shards import decode
from ristune.data.writing.source import Simulated, shard_generator
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Drawing, files

SIZES = {"train": 20, "val": 6, "test": 3}


class Numbered(Drawing):
    """Gives out the ids it is told to, in turn."""

    def __init__(self, ids):
        super().__init__()
        self.ids = np.array(ids)

    def draw(self, rows, rng):
        taken, self.ids = self.ids[:rows], self.ids[rows:]
        return {**super().draw(rows, rng), "sample_id": taken}


def test_the_layout_is_the_documented_one(tmp_path):
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), SIZES, 0, 8))
    assert sorted(files(tmp_path / "d")) == [
        "manifest.json",
        "manifest.sha256",
        "tables/codebook.parquet",
        "test/00000.parquet",
        "train/00000.parquet",
        "train/00001.parquet",
        "train/00002.parquet",
        "val/00000.parquet",
    ]


def test_the_manifest_returned_is_the_one_stored(tmp_path):
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), SIZES, 7, 8))
    assert manifest == parse((tmp_path / "d/manifest.json").read_bytes(), "d")
    assert (manifest.generator.name, manifest.generator.version, manifest.generator.seed) == (
        "drawing",
        "1",
        7,
    )
    assert manifest.generator.parameters == {"scale": 1.0}


@pytest.mark.parametrize("shard_rows", [1, 3, 8, 20, 100])
def test_every_split_has_the_rows_asked_for(tmp_path, shard_rows):
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), SIZES, 0, shard_rows))
    assert {name: split.rows for name, split in manifest.splits.items()} == SIZES
    for split in manifest.splits.values():
        assert all(shard.rows == shard_rows for shard in split.shards[:-1])


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        write_dataset(str(tmp_path / name), Simulated(Drawing(), SIZES, seed, 8))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    shards = "train/00000.parquet", "val/00000.parquet", "test/00000.parquet"
    assert all(files(tmp_path / "a")[path] != files(tmp_path / "c")[path] for path in shards)


def test_other_splits_do_not_change_a_split(tmp_path):
    one = write_dataset(str(tmp_path / "a"), Simulated(Drawing(), {"val": 6}, 3))
    two = write_dataset(str(tmp_path / "b"), Simulated(Drawing(), {"train": 50, "val": 6}, 3))
    assert one.splits["val"] == two.splits["val"]


def test_random_streams_of_shards_are_disjoint_and_fixed():
    words = {
        (seed, split, index): tuple(shard_generator(seed, split, index).integers(0, 2**63, 4))
        for seed in (0, 1)
        for split in ("train", "val", "test")
        for index in range(20)
    }
    assert len(set(words.values())) == len(words)
    documented = np.random.SeedSequence(entropy=1, spawn_key=(2, 5))
    expected = np.random.Generator(np.random.PCG64(documented)).integers(0, 2**63, 4)
    assert words[1, "test", 5] == tuple(expected)


def test_a_split_without_samples_is_left_out(tmp_path):
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 4, "val": 0}, 0))
    assert list(manifest.splits) == ["train"]
    assert not (tmp_path / "d/val").exists()


def test_statistics_are_of_the_train_split(tmp_path):
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 50, "val": 50}, 0, 7))
    assert sorted(manifest.statistics) == sorted(column.name for column in COLUMNS[:-1])
    train = open_dataset(str(tmp_path / "d")).split("train")
    for name, found in manifest.statistics.items():
        exact = train[name].numpy().astype(np.float64)
        assert found.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-15)
        assert found.std == pytest.approx(exact.std(), rel=1e-12)
        assert (found.min, found.max) == (exact.min(), exact.max())


def test_without_a_train_split_there_are_no_statistics(tmp_path):
    assert write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"test": 5}, 0)).statistics == {}


def test_a_table_is_stored_whole(tmp_path):
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"test": 5}, 0))
    table = manifest.tables["codebook"]
    arrays = decode((tmp_path / "d/tables/codebook.parquet").read_bytes(), table, table.columns)
    np.testing.assert_array_equal(arrays["phase"], Drawing().tables()["codebook"][1]["phase"])
    assert pq.read_table(tmp_path / "d/tables/codebook.parquet")["size"].to_pylist() == [0, 1, 2]


def test_any_object_with_the_parts_of_a_column_will_do(tmp_path):
    class Part(NamedTuple):
        name: str
        dtype: str
        shape: list[int]
        unit: str
        role: str

    class Foreign(Drawing):
        columns = tuple(Part(c.name, c.dtype, list(c.shape), c.unit, c.role) for c in COLUMNS)

    assert write_dataset(str(tmp_path / "d"), Simulated(Foreign(), {"test": 5}, 0)).columns == COLUMNS


def test_shards_are_about_128_mb_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr("ristune.data.writing.source.SHARD_BYTES", 600)
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 30}, 0))
    assert [shard.rows for shard in manifest.splits["train"].shards] == [9, 9, 9, 3]


def test_progress_counts_every_sample(tmp_path):
    calls = []
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), SIZES, 0, 8), progress=calls.append)
    assert calls == [8, 8, 4, 6, 3]


def test_a_shard_is_drawn_block_by_block_from_one_stream(tmp_path, monkeypatch):
    monkeypatch.setattr("ristune.data.writing.source.DRAWN_ROWS", 3)
    calls = []
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 8}, 0), progress=calls.append)
    assert calls == [3, 3, 2]
    rng = shard_generator(0, "train", 0)
    blocks = [Drawing().draw(rows, rng) for rows in calls]
    read = open_dataset(str(tmp_path / "d")).split("train")
    for name in blocks[0]:
        assert np.array_equal(read[name].numpy(), np.concatenate([block[name] for block in blocks]))


@pytest.mark.parametrize(
    ("ids", "rule"),
    [
        ([1, 2, 2, 2, 5, 6, 7, 8], "d: split 'train': got 2; 2 ids occur twice within train/00000.parquet"),
        ([1, 2, 3, 4, 5, 3, 7, 8], "1 ids occur twice within split 'train'"),
        (
            [1, 2, 3, 4, 5, 6, 5, 2],
            "d: got 2; 2 ids occur twice in split 'val' and in split 'train'; every row has",
        ),
    ],
)
def test_an_id_that_repeats_is_refused(tmp_path, ids, rule):
    with pytest.raises(InputError, match=rule):
        write_dataset(str(tmp_path / "d"), Simulated(Numbered(ids), {"train": 6, "val": 2}, 0, 4))
    assert not (tmp_path / "d/manifest.json").exists()


def test_ids_that_differ_are_accepted_in_any_order(tmp_path):
    simulator = Numbered([5, -3, 8, 0, 2, 9, 1, 7])
    write_dataset(str(tmp_path / "d"), Simulated(simulator, {"train": 6, "val": 2}, 0, 4))
    ids = open_dataset(str(tmp_path / "d")).split("train", ["sample_id"])["sample_id"]
    assert ids.tolist() == [5, -3, 8, 0, 2, 9]


def test_an_existing_dataset_is_never_overwritten(tmp_path):
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), SIZES, 0))
    before = files(tmp_path / "d")
    simulator = Drawing()
    with pytest.raises(
        InputError, match=f"got '{tmp_path}/d'; there is a dataset already.*; choose another directory"
    ):
        write_dataset(str(tmp_path / "d"), Simulated(simulator, SIZES, 1))
    assert files(tmp_path / "d") == before
    assert simulator.draws == 0


def test_a_directory_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/photo.jpg").write_bytes(b"precious")
    with pytest.raises(InputError, match="a new or empty directory is required, this one holds 'train'"):
        write_dataset(str(tmp_path), Simulated(Drawing(), SIZES, 0))
    assert files(tmp_path) == {"train/photo.jpg": b"precious"}


def test_an_unwritable_place_is_found_before_anything_is_drawn(tmp_path):
    (tmp_path / "file").touch()
    simulator = Drawing()
    with pytest.raises(
        InputError, match="output directory: .*a directory that can be written to is required"
    ):
        write_dataset(str(tmp_path / "file/d"), Simulated(simulator, SIZES, 0))
    assert simulator.draws == 0


def test_the_manifest_is_written_after_every_shard(tmp_path, monkeypatch):
    renamed = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: (renamed.append(to.name), replace(path, to))[1])
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), SIZES, 0, 8))
    assert renamed[0] == "unfinished"
    assert renamed[-1] == "manifest.json"
    assert renamed[-2] == "manifest.sha256"
    # Every shard, and then its record.
    assert renamed.index("00001.json") == renamed.index("00001.parquet") + 1
    assert len(renamed) == 14


def test_parameters_come_back_as_json_gives_them(tmp_path):
    class Structured(Drawing):
        def parameters(self):
            return {"shape": (2, 3), "name": "\u00e9", "none": None, "gains": {10: 1, 2: 3}}

    manifest = write_dataset(str(tmp_path / "d"), Simulated(Structured(), {"test": 2}, 0))
    # Keys are texts in JSON.
    gains = {"gains": {"10": 1, "2": 3}}
    assert manifest.generator.parameters == {"shape": [2, 3], "name": "\u00e9", "none": None, **gains}
    assert (
        json.loads((tmp_path / "d/manifest.json").read_bytes())["generator"]["parameters"]["name"] == "\u00e9"
    )
