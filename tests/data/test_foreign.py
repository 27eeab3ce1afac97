"""Parquet of other tools reads as what was written, or is refused with the place."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ristune.data.cache import NodeCache
from ristune.data.dataset import open_dataset
from ristune.data.places import Place
from ristune.data.stream import Stream
from ristune.errors import InputError
from tests.data.foreign import ROWS, WRITERS, arrow, by_polars, lay, values


@pytest.mark.parametrize("write", WRITERS)
def test_what_other_tools_write_reads_as_it_was(tmp_path, write):
    dataset = open_dataset(lay(tmp_path / "d", write))
    assert {c.name: (c.dtype, c.shape, c.unit, c.role) for c in dataset.manifest.columns} == {
        "y": ("<f4", (4, 2), "1", "input"),
        "taps": ("<i4", (3,), "1", "input"),
        "snr": ("<f8", (), "1", "input"),
        "scene_id": ("<i8", (), "1", "id"),
    }
    for seed, (split, rows) in enumerate(ROWS.items()):
        found = dataset.split(split)
        for name, array in values(rows, seed).items():
            assert torch.equal(found[name], torch.from_numpy(array)), name
    assert "convert" in dataset.hint and "left out" not in dataset.hint


def test_the_identity_is_of_content_and_not_of_place(tmp_path):
    one, other = (open_dataset(lay(tmp_path / name)).dataset_id for name in "ab")
    assert one == other
    by_polars(tmp_path / "b/val/1.parquet", values(4, 7))
    assert open_dataset(str(tmp_path / "b")).dataset_id != one


def write_one(root, **columns):
    (root / "train").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), root / "train/0.parquet")
    return str(root)


@pytest.mark.parametrize(
    ("columns", "name", "made_up"),
    [
        ({"id": [5, 3], "x_id": [1, 2]}, "id", False),
        ({"id": [5, 5], "x_id": [1, 2]}, "x_id", False),
        ({"id": [5, 5]}, "row_id", True),
        ({"row_id": [5, 5]}, "row_id_", True),
        ({"id": pa.array([1, 2], pa.int32())}, "row_id", True),
    ],
)
def test_rows_are_named_by_a_column_of_unique_integers_or_numbered(tmp_path, columns, name, made_up):
    dataset = open_dataset(write_one(tmp_path, x=[0.5, 1.5], **columns))
    assert [c.name for c in dataset.manifest.columns if c.role == "id"] == [name]
    assert ("numbered anew" in dataset.hint) == made_up
    wanted = [0, 1] if made_up else columns[name]
    assert dataset.split("train")[name].tolist() == wanted


def test_numbers_of_rows_go_on_through_all_splits(tmp_path):
    for split, rows in ROWS.items():
        (tmp_path / split).mkdir()
        for number in range(2):
            pq.write_table(pa.table({"x": np.zeros(rows)}), tmp_path / split / f"{number}.parquet")
    dataset = open_dataset(str(tmp_path))
    ids = torch.cat([dataset.split(split)["row_id"] for split in ROWS])
    assert ids.tolist() == list(range(2 * sum(ROWS.values())))


def test_integers_and_truth_values_take_the_narrowest_type_that_holds_them(tmp_path):
    kinds = {
        "a": pa.uint16(),
        "b": pa.uint32(),
        "c": pa.uint64(),
        "d": pa.bool_(),
        "e": pa.float16(),
        "f": pa.int8(),
    }
    columns = {name: pa.array([0, 1], pa.int64()).cast(kind) for name, kind in kinds.items() if name != "e"}
    columns["e"] = pa.array(np.array([0, 1], "<f2"))
    dataset = open_dataset(write_one(tmp_path, **columns))
    found = {c.name: c.dtype for c in dataset.manifest.columns}
    assert found == {"a": "<i4", "b": "<i8", "c": "<i8", "d": "|u1", "e": "<f2", "f": "|i1", "row_id": "<i8"}
    assert all(dataset.split("train")[name].tolist() == [0, 1] for name in kinds)


def test_a_side_table_whose_name_is_no_identifier_is_refused_by_its_file(tmp_path):
    lay(tmp_path)
    (tmp_path / "tables").mkdir()
    by_polars(tmp_path / "tables" / "two-words.parquet", values(3))
    rule = "tables/two-words.parquet: table 'two-words': got 'two-words'; a table is named by an ASCII"
    with pytest.raises(InputError, match=rule):
        open_dataset(str(tmp_path))


def test_columns_that_are_no_numbers_are_left_out_and_named(tmp_path):
    day = datetime.date(2000, 1, 1)
    dataset = open_dataset(write_one(tmp_path, x=[1.0], text=["a"], day=[day], **{"a b": [1]}))
    assert [c.name for c in dataset.manifest.columns] == ["x", "row_id"]
    assert "no tensors of numbers: text (string), day (date32[day]), a b (int64)" in dataset.hint


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            [[1.0, 2.0], [3.0]],
            "got 'a list of 1 in row 1, of 2 in row 0'; all lists of a column have one length",
        ),
        ([1.0, None], "got '1 nulls'; no value may be missing, as in row 1"),
        ([[1.0], None], "got '1 nulls'; no value may be missing, as in row 1"),
        ([[1.0, 2.0], [3.0, None]], "got '1 nulls'; no value may be missing, as in row 1"),
        ([[[1.0], [2.0]], [[1.0], [2.0, 3.0]]], "got 'a list of 2 in row 1, of 1 in row 0'"),
        ([[1.0], [float("nan")]], "got nan; row 1: every value must be finite"),
        ([1.0, float("inf")], "got inf; row 1: every value must be finite"),
        (pa.array([0, 2**63], pa.uint64()), "got '<u8'; all values must fit dtype <i8"),
    ],
)
def test_what_no_tensor_can_hold_is_refused_with_its_place(tmp_path, column, message):
    dataset = open_dataset(write_one(tmp_path, x=column))
    with pytest.raises(InputError) as error:
        dataset.split("train")
    assert str(error.value).startswith(f"{tmp_path}/train/0.parquet: column 'x': {message}")


def test_files_of_several_schemas_are_refused(tmp_path):
    write_one(tmp_path, x=[1.0])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "train/1.parquet")
    with pytest.raises(
        InputError, match=r"train/1.parquet: column 'x': type: got 'int64'; it is 'double' in train/0.par"
    ):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("keep", [0, 4, 100])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, keep):
    path = tmp_path / "train/0.parquet"
    write_one(tmp_path, x=[1.0])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"{path}: got .*; a Parquet file that can be read is required"):
        open_dataset(str(tmp_path))


def test_a_file_that_changes_after_opening_is_refused(tmp_path):
    dataset = open_dataset(write_one(tmp_path, x=[1.0]))
    write_one(tmp_path, x=[1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="its footer is another one than when the dataset was opened; start"):
        dataset.split("train")


def test_a_dataset_that_lost_its_manifest_is_not_taken_for_foreign(tmp_path):
    write_one(tmp_path, x=[1.0])
    (tmp_path / "manifest.sha256").write_text("")
    with pytest.raises(InputError, match="manifest.sha256 is there, so manifest.json was lost"):
        open_dataset(str(tmp_path))


def test_an_empty_directory_is_no_dataset(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="a dataset is a directory that holds manifest.json"):
        open_dataset(str(tmp_path))


def test_metadata_that_do_not_fit_the_data_are_refused(tmp_path):
    field = pa.field("x", pa.list_(pa.float32(), 4), metadata={"shape": "[3]"})
    table = pa.table([pa.array([[1.0, 2.0, 3.0, 4.0]], field.type)], schema=pa.schema([field]))
    (tmp_path / "train").mkdir()
    pq.write_table(table, tmp_path / "train/0.parquet")
    with pytest.raises(InputError, match=r"got \(4,\); 3 elements a row are required, for the shape \(3,\)"):
        open_dataset(str(tmp_path))


@pytest.fixture
def grouped(tmp_path):
    """Files of several row groups, without an id."""
    for number, rows in enumerate((23, 8)):
        arrays = values(rows, number)
        table = arrow(arrays, pa.FixedShapeTensorArray.from_numpy_ndarray).drop_columns("scene_id")
        (tmp_path / "train").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / f"train/{number}.parquet", row_group_size=5)
    return str(tmp_path)


@pytest.mark.parametrize("mode", ["windowed", "cached"])
def test_streams_read_it_in_every_mode(grouped, tmp_path_factory, mode):
    cache = None
    if mode == "cached":
        place = Place(tmp_path_factory.mktemp("cache"), 10**9, "data.cache_disk_gb")
        cache = NodeCache((place,), lambda line: None)
    dataset = open_dataset(grouped, cache)
    stream = Stream(
        dataset,
        "train",
        batch_size=7,
        seed=0,
        shuffle=True,
        device="cpu",
        mode=mode,
        window=2,
        prefetch=1,
        gpu_share=0.5,
    )
    batches = list(stream.epoch(0))
    found = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    order = found["row_id"].argsort()
    assert found["row_id"][order].tolist() == list(range(31)) and found["row_id"].tolist() != list(range(31))
    for name in ("y", "taps", "snr"):
        wanted = np.concatenate([values(rows, number)[name] for number, rows in enumerate((23, 8))])
        assert torch.equal(found[name][order], torch.from_numpy(wanted))


def test_a_value_that_is_refused_is_named_by_its_row_in_the_file(tmp_path):
    (tmp_path / "train").mkdir()
    array = np.arange(20.0)
    array[13] = np.nan
    pq.write_table(pa.table({"x": array}), tmp_path / "train/0.parquet", row_group_size=5)
    with pytest.raises(InputError, match="column 'x': got nan; row 13: every value must be finite"):
        open_dataset(str(tmp_path)).split("train")
    dataset = open_dataset(str(tmp_path))
    (shard,) = dataset.manifest.splits["train"].shards
    with pytest.raises(InputError, match="column 'x': got nan; row 13: every value must be finite"):
        dataset.decode(dataset.storage.read(shard.path), shard, dataset.manifest.columns)
