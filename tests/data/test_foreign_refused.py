"""Foreign Parquet that says one thing here and another there, or nonsense, is refused with its place."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ristune.data.dataset import open_dataset
from ristune.errors import InputError


def write(path, columns, metadata=None, said=None, **options):
    """A file; `metadata` of its fields by name, `said` of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    for position, field in enumerate(table.schema):
        changed = field.with_metadata((metadata or {}).get(field.name))
        table = table.cast(table.schema.set(position, changed))
    pq.write_table(table.replace_schema_metadata(said), path, **options)


def refused(root):
    with pytest.raises(InputError) as error:
        open_dataset(str(root))
    return str(error.value).removeprefix(f"{root}/")


FOUR = pa.array([[1.0, 2.0, 3.0, 4.0]], pa.list_(pa.float32(), 4))


def test_files_without_rows_beside_others_name_no_rows(tmp_path):
    write(tmp_path / "train/0.parquet", {"id": pa.array([], pa.uint32()), "x": pa.array([], pa.float64())})
    write(tmp_path / "train/1.parquet", {"id": pa.array([7, 3], pa.uint32()), "x": [0.5, 1.5]})
    assert open_dataset(str(tmp_path)).split("train")["id"].tolist() == [7, 3]


@pytest.mark.parametrize("kind", [pa.uint32(), pa.uint64(), pa.int64()])
def test_integers_of_any_sign_name_rows_where_they_are_int64_in_a_batch(tmp_path, kind):
    write(tmp_path / "train/0.parquet", {"index_id": pa.array([7, 3], kind), "x": [0.5, 1.5]})
    write(tmp_path / "train/1.parquet", {"index_id": pa.array([4], kind), "x": [0.5]})
    dataset = open_dataset(str(tmp_path))
    assert [c.role for c in dataset.manifest.columns] == ["id", "input"]
    assert dataset.split("train")["index_id"].tolist() == [7, 3, 4]


def test_an_id_beyond_int64_is_refused_and_not_wrapped(tmp_path):
    write(tmp_path / "train/0.parquet", {"id": pa.array([1, 2**63], pa.uint64())})
    assert refused(tmp_path).startswith("train/0.parquet: column 'id': got '<u8'; all values must fit dtype")


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [("shape", "[2, 2]", "[4]"), ("dtype", "<f4", "<f8"), ("role", "label", "input"), ("unit", "V", None)],
)
def test_files_that_say_different_things_of_a_column_are_refused(tmp_path, key, one, other):
    write(tmp_path / "train/0.parquet", {"x": FOUR}, {"x": {key: one}})
    write(tmp_path / "val/0.parquet", {"x": FOUR}, {"x": {key: other}} if other else None)
    wanted = f"val/0.parquet: column 'x': {key}: got {other!r}; it is {one!r} in train/0.parquet"
    assert refused(tmp_path).startswith(wanted)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["x"], "['y'] missing, [] besides"),
        (["x", "y", "z"], "[] missing, ['z'] besides"),
        (["y", "x"], "the order ['y', 'x']"),
    ],
)
def test_other_columns_are_named(tmp_path, names, found):
    write(tmp_path / "train/0.parquet", {"x": [1.0], "y": [2.0]})
    write(tmp_path / "train/1.parquet", {name: [1.0] for name in names})
    assert refused(tmp_path).startswith(
        f"train/1.parquet: columns: got {found!r}; all files have the columns"
    )


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"dtype": "float99"}, "got 'float99'; the dtype in the metadata of a field is one of |u1"),
        ({"dtype": "O"}, "got 'O'; the dtype in the metadata"),
        ({"shape": "[-2, -2]"}, "got '[-2, -2]'; the shape in the metadata of a field is a JSON list of int"),
        ({"shape": "[2.7, 2]"}, "got '[2.7, 2]'; the shape in the metadata"),
        ({"shape": '"22"'}, "got '\"22\"'; the shape in the metadata"),
        ({"shape": "4"}, "got '4'; the shape in the metadata"),
        ({"shape": "[true, 4]"}, "got '[true, 4]'; the shape in the metadata"),
        ({"shape": "[" * 100_000}, "; the shape in the metadata"),
        ({"unit": b"\xff\xfe"}, r"got b'\xff\xfe'; shape, dtype, unit, role in the metadata of a field are"),
    ],
)
def test_metadata_that_are_nonsense_are_refused(tmp_path, said, rule):
    write(tmp_path / "train/0.parquet", {"x": FOUR}, {"x": said})
    text = refused(tmp_path)
    assert text.startswith("train/0.parquet: column 'x': got ") and rule in text


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"name": 3}, "name: got 3; a string is required"),
        ({"version": None}, "version: got None; a string is required"),
        ({"parameters": [1]}, "parameters: got 'a list of 1'; a JSON object is required"),
        ({"seed": "0"}, "seed: got '0'; an integer"),
        ({"more": 1}, "more: got 1; unknown key"),
    ],
)
def test_a_generator_of_other_types_is_refused(tmp_path, said, rule):
    generator = {"name": "a", "version": "1", "parameters": {}, "seed": 0, **said}
    write(tmp_path / "train/0.parquet", {"x": [1.0]}, said={"ristune.generator": json.dumps(generator)})
    assert refused(tmp_path).startswith(f"train/0.parquet: ristune.generator: {rule}")


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], ["x", "x"])
    pq.write_table(table, tmp_path / "train/0.parquet")
    assert refused(tmp_path).startswith("train/0.parquet: columns: got ['x']; a name is used once")


def test_a_side_table_without_rows_is_refused(tmp_path):
    write(tmp_path / "train/0.parquet", {"x": [1.0]})
    write(tmp_path / "tables/book.parquet", {"x": pa.array([], pa.float32())})
    assert refused(tmp_path).startswith("tables/book.parquet: rows: got 0; at least one row is required")


def test_a_name_that_is_not_ascii_is_left_out_and_named(tmp_path):
    write(tmp_path / "train/0.parquet", {"x": [1.0], "größe": [2.0]})
    dataset = open_dataset(str(tmp_path))
    assert [c.name for c in dataset.manifest.columns] == ["x", "row_id"]
    assert "größe (double)" in dataset.hint


def test_text_alone_is_no_dataset(tmp_path):
    write(tmp_path / "train/0.parquet", {"text": ["a"]})
    assert ": columns: got ['text (string)']; no column is of use" in refused(tmp_path)


def test_what_is_left_out_of_side_tables_is_named_with_its_file(tmp_path):
    write(tmp_path / "train/0.parquet", {"x": [1.0]})
    write(tmp_path / "tables/names.parquet", {"name": ["a"]})
    write(tmp_path / "tables/book.parquet", {"phase": [1.0], "note": ["b"]})
    dataset = open_dataset(str(tmp_path))
    assert list(dataset.manifest.tables) == ["book"]
    assert "tables/book.parquet: note (string), tables/names.parquet: name (string)" in dataset.hint


def test_row_groups_without_rows_are_passed_over(tmp_path):
    (tmp_path / "train").mkdir()
    schema = pa.schema([("x", pa.list_(pa.float32())), ("id", pa.int64())])
    with pq.ParquetWriter(tmp_path / "train/0.parquet", schema) as writer:
        for ids in ([], [4, 5], [], [], [6], []):
            rows = [[float(number)] * 2 for number in ids]
            writer.write_table(pa.table({"x": rows, "id": ids}, schema=schema))
    assert pq.read_metadata(tmp_path / "train/0.parquet").num_row_groups == 6
    dataset = open_dataset(str(tmp_path))
    assert [group.rows for group in dataset.manifest.splits["train"].shards[0].row_groups] == [2, 1]
    found = dataset.split("train")
    assert found["id"].tolist() == [4, 5, 6] and found["x"].tolist() == [[4.0, 4.0], [5.0, 5.0], [6.0, 6.0]]
    (shard,) = dataset.manifest.splits["train"].shards
    whole = dataset.decode(dataset.storage.read(shard.path), shard, dataset.manifest.columns)
    assert whole["id"].tolist() == [4, 5, 6]


def test_lists_that_are_all_empty_are_no_tensors(tmp_path):
    kind = pa.list_(pa.list_(pa.float32()))
    write(tmp_path / "train/0.parquet", {"x": pa.array([[], []], kind), "y": [1.0, 2.0]})
    assert "every dimension is at least 1" in refused(tmp_path)


@pytest.mark.parametrize("at", [0, 5])
def test_nulls_inside_of_tensors_are_refused_by_row(tmp_path, at):
    flat = pa.array([None if n == at else float(n) for n in range(12)], pa.float32())
    storage = pa.FixedSizeListArray.from_arrays(flat, 4)
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2, 2)), storage)
    write(tmp_path / "train/0.parquet", {"x": tensors, "n": np.arange(3)})
    with pytest.raises(InputError, match=f"column 'x': got '1 nulls'; .* as in row {at // 4};"):
        open_dataset(str(tmp_path)).split("train")
