"""An export is read by the common tools, and opens again as what it was made of."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from ristune.data.convert import Converted
from ristune.data.dataset import open_dataset
from ristune.data.export import export
from ristune.data.source import Simulated
from ristune.data.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Drawing

SIZES = {"train": 50, "val": 7}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("original") / "d")
    write_dataset(root, Simulated(Drawing(), SIZES, 5, 20))
    return open_dataset(root)


@pytest.fixture
def exported(original, tmp_path):
    export(original, str(tmp_path / "out"))
    return tmp_path / "out"


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name


def test_an_export_opens_again_as_what_it_was(original, exported):
    dataset = open_dataset(str(exported))
    assert dataset.manifest.columns == original.manifest.columns
    assert dataset.manifest.generator == original.manifest.generator
    for split in SIZES:
        assert_same(dataset.split(split), original.split(split))
    assert_same(dataset.table("codebook"), original.table("codebook"))
    assert dataset.manifest.tables["codebook"].columns == original.manifest.tables["codebook"].columns
    assert "left out" not in dataset.hint and "numbered" not in dataset.hint


def test_floats_are_split_and_everything_is_compressed(exported):
    footer = pq.read_metadata(exported / "train/00000.parquet").row_group(0)
    chunks = {c.path_in_schema: c for c in (footer.column(i) for i in range(footer.num_columns))}
    assert {c.compression for c in chunks.values()} == {"ZSTD"}
    split = {name for name, chunk in chunks.items() if "BYTE_STREAM_SPLIT" in chunk.encodings}
    assert split == {"wave.list.element", "power"}


def wanted(original):
    return {name: tensor.numpy() for name, tensor in original.split("train").items()}


def assert_reads(found, original):
    for column in COLUMNS:
        array = wanted(original)[column.name].reshape(
            SIZES["train"], *([column.elements] if column.shape else [])
        )
        values = np.array([np.asarray(value) for value in found[column.name]])
        np.testing.assert_array_equal(values.astype(array.dtype), array, err_msg=column.name)


def test_duckdb_reads_it(original, exported):
    found = duckdb.sql(f"select * from '{exported}/train/*.parquet'").fetchall()
    assert_reads(dict(zip([c.name for c in COLUMNS], zip(*found, strict=True), strict=True)), original)
    mean = duckdb.sql(f"select avg(list_sum(wave)) from '{exported}/train/*.parquet'").fetchall()[0][0]
    assert mean == pytest.approx(wanted(original)["wave"].sum() / SIZES["train"], rel=1e-4)


def test_polars_reads_it(original, exported):
    frame = pl.read_parquet(f"{exported}/train/*.parquet")
    assert frame.schema["wave"] == pl.Array(pl.Float32, 6) and frame.schema["channel"] == pl.Array(
        pl.Float16, 5
    )
    assert_reads({name: frame[name].to_list() for name in frame.columns}, original)


def test_pandas_reads_it(original, exported):
    frame = pd.concat([pd.read_parquet(path) for path in sorted((exported / "train").iterdir())])
    assert frame["gain"].dtype == np.float16
    assert_reads(frame, original)


def test_an_export_overwrites_nothing(original, exported):
    with pytest.raises(InputError, match="a new or empty directory is required"):
        export(original, str(exported))


def test_an_export_that_was_interrupted_is_no_dataset_and_is_written_again(original, tmp_path):
    def stop(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(original, str(tmp_path), stop)
    with pytest.raises(InputError, match="the dataset was never finished"):
        open_dataset(str(tmp_path))
    export(original, str(tmp_path))
    assert_same(open_dataset(str(tmp_path)).split("val"), original.split("val"))


@pytest.mark.parametrize("memory", [1, 3000, 10**9])
@pytest.mark.parametrize("shuffle", [True, False])
def test_converting_keeps_every_sample_whatever_the_memory(original, exported, tmp_path, memory, shuffle):
    source = Converted(open_dataset(str(exported)), shuffle, seed=1, memory=memory, shard_rows=8)
    counted = []
    write_dataset(str(tmp_path / "back"), source, progress=counted.append)
    back = open_dataset(str(tmp_path / "back"))
    assert sum(counted) == sum(SIZES.values())
    assert back.manifest.generator == original.manifest.generator
    assert back.manifest.columns == original.manifest.columns and back.hint == ""
    for split in SIZES:
        found, stored = back.split(split), original.split(split)
        assert torch.equal(found["sample_id"], stored["sample_id"]) != shuffle
        found_order, stored_order = found["sample_id"].argsort(), stored["sample_id"].argsort()
        assert_same(
            {name: tensor[found_order] for name, tensor in found.items()},
            {name: tensor[stored_order] for name, tensor in stored.items()},
        )
    assert_same(back.table("codebook"), original.table("codebook"))


def test_the_order_depends_on_the_seed_and_not_on_the_memory(exported, tmp_path):
    ids = []
    for number, (seed, memory) in enumerate([(1, 1), (1, 10**9), (2, 10**9)]):
        source = Converted(open_dataset(str(exported)), True, seed, memory, shard_rows=8)
        write_dataset(str(tmp_path / str(number)), source)
        ids.append(open_dataset(str(tmp_path / str(number))).split("train")["sample_id"].tolist())
    assert ids[0] == ids[1] != ids[2]


def test_fewer_passes_are_made_with_more_memory(exported):
    dataset = open_dataset(str(exported))
    passes = [Converted(dataset, True, 0, memory, 8).passes for memory in (1, 10**9)]
    assert passes == [8, 2]


def test_plain_files_say_which_they_were_and_how_they_were_ordered(tmp_path):
    (tmp_path / "in/train").mkdir(parents=True)
    pl.DataFrame({"x": np.arange(5.0)}).write_parquet(tmp_path / "in/train/0.parquet")
    dataset = open_dataset(str(tmp_path / "in"))
    manifest = write_dataset(str(tmp_path / "out"), Converted(dataset, True, 9, 10**6))
    assert manifest.generator.name == "parquet" and manifest.generator.seed == 9
    assert manifest.generator.parameters == {"dataset_id": dataset.dataset_id, "order": "shuffled"}
