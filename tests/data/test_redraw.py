import numpy as np
import pytest

from ristune.data.writing.redraw import rewrite_shard
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import CODEBOOK, COLUMNS, Drawing, files

SIZES = {"train": 20, "val": 6}


@pytest.fixture
def dataset(tmp_path):
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), SIZES, 3, 8))
    return tmp_path / "d"


@pytest.mark.parametrize("path", ["train/00000.parquet", "train/00002.parquet", "val/00000.parquet"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_damaged_shard_is_drawn_again_alone(dataset, path, lost):
    before = files(dataset)
    (dataset / path).unlink() if lost else (dataset / path).write_bytes(b"damaged")
    simulator = Drawing()
    # Of what size the splits or shards would be now does not matter: the manifest says it.
    shard = rewrite_shard(str(dataset), Simulated(simulator, {"test": 1}, 3), path)
    assert shard.path == path
    assert simulator.draws == 1
    assert files(dataset) == before


@pytest.mark.parametrize(
    ("simulator", "seed", "difference"),
    [
        (Drawing(), 4, "generator.seed: 3 there, 4 asked"),
        (Drawing(2.0), 3, r"generator.parameters.scale: 1\.0 there, 2\.0 asked"),
        (type("Named", (Drawing,), {"name": "other"})(), 3, "generator.name: 'drawing' there, 'other' asked"),
        (type("Newer", (Drawing,), {"version": "2"})(), 3, "generator.version: '1' there, '2' asked"),
        (type("Less", (Drawing,), {"columns": COLUMNS[1:]})(), 3, "columns.wave: .* there, nothing asked"),
    ],
)
def test_a_shard_of_another_source_is_refused(dataset, simulator, seed, difference):
    before = files(dataset)
    with pytest.raises(InputError, match=f"must have been made by .*{difference}"):
        rewrite_shard(str(dataset), Simulated(simulator, SIZES, seed, 8), "train/00000.parquet")
    assert simulator.draws == 0
    assert files(dataset) == before


def test_other_bytes_are_refused_and_not_written(dataset):
    class Changed(Drawing):
        def draw(self, rows, rng):
            return super().draw(rows, np_generator(rng))

    def np_generator(rng):
        rng.random()
        return rng

    before = files(dataset)
    rule = "train/00001.parquet: got 'sha256 .*the manifest says sha256 .*another pyarrow than.*nothing was"
    with pytest.raises(InputError, match=rule):
        rewrite_shard(str(dataset), Simulated(Changed(), SIZES, 3, 8), "train/00001.parquet")
    assert files(dataset) == before


@pytest.mark.parametrize("lost", [True, False])
def test_a_damaged_side_table_is_made_again_from_the_parameters(dataset, lost):
    before = files(dataset)
    path = "tables/codebook.parquet"
    (dataset / path).unlink() if lost else (dataset / path).write_bytes(b"damaged")
    simulator = Drawing()
    assert rewrite_shard(str(dataset), Simulated(simulator, SIZES, 3), path).rows == 3
    assert simulator.draws == 0
    assert files(dataset) == before


@pytest.mark.parametrize(
    ("tables", "rule"),
    [
        ({}, "table: got 'codebook'; the tables of generator 'drawing' are none"),
        (
            {"codebook": (CODEBOOK, {"phase": np.ones((3, 6), "<f4"), "size": np.arange(3, dtype="<i4")})},
            "tables/codebook.parquet: got 'sha256 .*the manifest says sha256",
        ),
    ],
)
def test_another_side_table_is_refused_and_not_written(dataset, tables, rule):
    class Other(Drawing):
        def tables(self):
            return tables

    before = files(dataset)
    with pytest.raises(InputError, match=rule):
        rewrite_shard(str(dataset), Simulated(Other(), SIZES, 3), "tables/codebook.parquet")
    assert files(dataset) == before


def test_a_shard_that_is_not_in_the_dataset_is_refused(dataset):
    known = "the files are train/00000.parquet to train/00002.parquet, .*, tables/codebook.parquet"
    rule = f"shard: got 'train/00003.parquet'; {known}"
    with pytest.raises(InputError, match=rule):
        rewrite_shard(str(dataset), Simulated(Drawing(), SIZES, 3, 8), "train/00003.parquet")
