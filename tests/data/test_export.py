"""An export is read by the common tools, and opens again as what it was made of."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from ristune.data.dataset import open_dataset
from ristune.data.foreign.convert import Converted
from ristune.data.foreign.export import MARK, export
from ristune.data.manifest import UNFINISHED
from ristune.data.verify import verify
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.storage.access import open_storage
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


def test_nothing_of_an_interrupted_export_of_another_dataset_is_left(original, tmp_path):
    place = open_storage(str(tmp_path))
    for path in ("train/00000.parquet", "train/00099.parquet", "test/00000.parquet", "tables/old.parquet"):
        place.write_atomic(path, b"old")
    place.write_atomic(UNFINISHED, MARK)
    export(original, str(tmp_path))
    dataset = open_dataset(str(tmp_path))
    assert list(dataset.manifest.splits) == list(SIZES) and list(dataset.manifest.tables) == ["codebook"]
    assert_same(dataset.split("train"), original.split("train"))


def test_an_unfinished_dataset_is_not_taken_for_an_export(original, tmp_path):
    (tmp_path / UNFINISHED).write_bytes(b"{}")
    with pytest.raises(InputError, match="a new or empty directory is required"):
        export(original, str(tmp_path))


@pytest.mark.parametrize("memory", [1, 3000, 10**9])
def test_an_export_is_converted_back_to_the_very_dataset(original, exported, tmp_path, memory):
    counted = []
    source = Converted(open_dataset(str(exported)), seed=1, memory=memory, shard_rows=20)
    write_dataset(str(tmp_path / "back"), source, progress=counted.append)
    back = open_dataset(str(tmp_path / "back"))
    assert back.dataset_id == original.dataset_id and back.hint == ""
    assert sum(counted) == sum(SIZES.values())


@pytest.fixture
def plain(tmp_path):
    """Rows in a telling order, in several files, by a tool that knows nothing of ristune."""
    for split, first, rows in (("train", 0, 50), ("val", 50, 9)):
        (tmp_path / "plain" / split).mkdir(parents=True)
        for number, ids in enumerate(np.array_split(np.arange(first, first + rows), 3)):
            frame = pl.DataFrame({"id": ids, "x": ids[:, None] * np.array([0.5, 2.0])})
            frame.write_parquet(tmp_path / f"plain/{split}/{number}.parquet")
    return open_dataset(str(tmp_path / "plain"))


def converted(dataset, place, seed=1, memory=10**9):
    write_dataset(str(place), Converted(dataset, seed, memory, shard_rows=8))
    return open_dataset(str(place))


def test_converting_shuffles_rows_within_their_split_and_keeps_them_whole(plain, tmp_path):
    dataset = converted(plain, tmp_path / "out")
    for split, ids in (("train", range(50)), ("val", range(50, 59))):
        found = dataset.split(split)
        assert found["id"].tolist() != list(ids) and sorted(found["id"].tolist()) == list(ids)
        assert torch.equal(found["x"], found["id"][:, None] * torch.tensor([0.5, 2.0], dtype=torch.float64))
    generator = dataset.manifest.generator
    assert (generator.name, generator.parameters, generator.seed) == (
        "parquet",
        {"dataset_id": plain.dataset_id},
        1,
    )
    assert list(verify(dataset.storage)) == []


def test_what_was_converted_comes_back_from_an_export_as_it_was(plain, tmp_path):
    dataset = converted(plain, tmp_path / "once")
    export(dataset, str(tmp_path / "exported"))
    back = converted(open_dataset(str(tmp_path / "exported")), tmp_path / "twice", seed=7)
    assert back.dataset_id == dataset.dataset_id


def test_the_order_depends_on_the_seed_and_not_on_the_memory(plain, tmp_path):
    choices = [(1, 1), (1, 500), (1, 10**9), (2, 10**9)]
    places = [converted(plain, tmp_path / str(n), *choice) for n, choice in enumerate(choices)]
    orders = [dataset.split("train")["id"].tolist() for dataset in places]
    assert orders[0] == orders[1] == orders[2] != orders[3]


def test_fewer_passes_are_made_with_more_memory(plain):
    passes = [Converted(plain, 0, memory, 8).passes for memory in (1, 8 * 24 * 3, 10**9)]
    assert passes == [9, 4, 2]
