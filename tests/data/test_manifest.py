import copy
import hashlib
import json

import pytest

from ristune.data.columns import Column, check_columns, id_column
from ristune.data.manifest import parse
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Drawing


@pytest.fixture
def stored(tmp_path):
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 20, "val": 5}, 1, 8))
    return (tmp_path / "d" / "manifest.json").read_bytes()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def changed(stored, path, value):
    document = json.loads(stored)
    node = document
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return canonical(document)


def test_stored_bytes_are_canonical_json(stored):
    assert stored == canonical(json.loads(stored))
    assert stored.isascii()


def test_parsing_and_encoding_give_the_same_bytes(stored):
    assert parse(stored, "d").encode() == stored


def test_dataset_id_is_the_hash_of_the_stored_bytes(stored):
    assert parse(stored, "d").dataset_id == hashlib.sha256(stored).hexdigest()


def test_dataset_id_depends_on_every_part(stored):
    other = changed(stored, ["generator", "version"], "2")
    assert parse(other, "d").dataset_id != parse(stored, "d").dataset_id


def test_text_that_is_not_json_is_refused():
    with pytest.raises(InputError, match=r"d/manifest.json: got 'no json'; a JSON document is required"):
        parse(b"no json", "d")


def test_another_schema_version_is_refused(stored):
    rule = r"d/manifest.json: schema_version: got 2; this version of ristune reads schema version 1 only; wr"
    with pytest.raises(InputError, match=rule):
        parse(changed(stored, ["schema_version"], 2), "d")


def test_a_foreign_manifest_is_refused():
    with pytest.raises(InputError, match=r"got \['name', 'icons'\]; the key 'schema_version' is required"):
        parse(b'{"name":"app","icons":[]}', "d")


def test_bytes_that_are_not_canonical_are_refused(stored):
    with pytest.raises(InputError, match="stored in canonical JSON"):
        parse(json.dumps(json.loads(stored), indent=1).encode(), "d")


def test_numbers_beyond_the_range_of_floats_are_refused(stored):
    data = stored.replace(b'"seed":', b'"seed":1e999,"extra":', 1)
    with pytest.raises(InputError, match="1e999 is beyond the range of numbers"):
        parse(data, "d")


def test_nan_is_refused(stored):
    with pytest.raises(InputError, match="NaN is not JSON"):
        parse(stored.replace(b'"scale":1.0', b'"scale":NaN'), "d")


SHARD = ["splits", "train", "shards", 0]
GROUP = [*SHARD, "row_groups", 0]


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (["splits"], None, "the key 'splits' is required"),
        (["extra"], 1, "extra: got 1; unknown key; the keys are columns, tables"),
        (["columns"], {}, "columns: .*a JSON array is required"),
        (["columns", 0, "dtype"], ">f4", r"column 'wave': got '>f4'; dtype must be one of \|u1"),
        (["columns", 0, "name"], "a b", "a column is named by an ASCII identifier"),
        (["columns", 0, "shape"], [0], r"columns\[0\].shape\[0\]: got 0; an integer of at least 1"),
        (["columns", 0, "unit"], 3, r"columns\[0\].unit: got 3; a string is required"),
        (["columns", 1, "name"], "wave", "column 'wave': got 2; a name is used once"),
        (["columns", 7, "role"], "label", "exactly one column of role 'id' is required"),
        (["generator", "seed"], True, "generator.seed: got True; an integer of at least 0"),
        (["generator", "parameters"], [], "generator.parameters: .*a JSON object is required"),
        (["statistics", "wave", "mean"], "0", "statistics.wave.mean: got '0'; a number is required"),
        (["tables", "../x"], {}, "table '../x': got '../x'; a table is named by an ASCII identifier"),
        (["statistics", "wav"], {}, "statistics.wav: .*statistics are of columns only"),
        (["splits", "dev"], {}, "splits.dev: .*a split is one of train, val, test"),
        (["splits"], {}, r"splits: got \[\]; at least one split is required, of train, val, test"),
        (["statistics", "wave", "mean"], 10**400, "a number that float64 can hold is required"),
        ([*SHARD, "bytes"], 10**30, f"an integer of at most {2**63 - 1} is required"),
        (["splits", "train", "rows"], 21, "got 21; the rows of a split are the sum of its shards' rows"),
        ([*SHARD, "rows"], 9, "got 9; the rows of a shard are the sum of its row groups' rows"),
        ([*SHARD, "path"], "../secret", "got '../secret'; a path inside the dataset is required"),
        ([*SHARD, "path"], "/etc/passwd", "a path inside the dataset is required"),
        ([*SHARD, "path"], "train/../../x", "a path inside the dataset is required"),
        ([*SHARD, "sha256"], "00", "64 hexadecimal digits are required"),
        ([*SHARD, "bytes"], 10, r"bytes 4 to \d+ lie beyond the 10 bytes of the file"),
        ([*GROUP, "columns", "wave"], None, "the key 'wave' is required"),
        ([*GROUP, "columns", "wave", "offset"], 0, "a column lies inside its row group"),
        ([*GROUP, "columns", "wave", "length"], 191, "192 bytes are needed for 8 rows, not 191"),
    ],
)
def test_a_manifest_that_contradicts_the_format_is_refused(stored, path, value, rule):
    with pytest.raises(InputError, match=rule):
        parse(changed(stored, path, value), "d")


def test_every_key_is_required(stored):
    def keys(node, path):
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            if isinstance(node, dict):
                yield [*path, key]
            yield from keys(value, [*path, key])

    # Names chosen by the dataset, not keys of the format.
    free = (["generator", "parameters"], ["statistics"], ["splits"], ["tables"])
    paths = [path for path in keys(json.loads(stored), []) if path[:-1] not in free]
    assert len(paths) > 100
    for path in paths:
        with pytest.raises(InputError, match="is required"):
            parse(changed(stored, path, None), "d")


def nested(depth):
    return {"a": nested(depth - 1)} if depth else 1


def test_parameters_may_be_nested_but_not_without_end(stored):
    # The manifest and its generator are two objects around them.
    data = changed(stored, ["generator", "parameters"], nested(98))
    assert parse(data, "d").encode() == data
    with pytest.raises(InputError, match="objects and arrays are nested at most 100 deep; write it as docs/"):
        parse(changed(stored, ["generator", "parameters"], nested(99)), "d")


def test_a_seed_has_any_number_of_bits(stored):
    assert parse(changed(stored, ["generator", "seed"], 2**128), "d").generator.seed == 2**128


def test_a_dataset_without_statistics_is_accepted(stored):
    assert parse(changed(stored, ["statistics"], {}), "d").statistics == {}


def test_integers_among_statistics_keep_their_form(stored):
    data = changed(stored, ["statistics", "wave", "mean"], 0)
    assert parse(data, "d").encode() == data


def test_parsing_leaves_the_columns_as_declared(stored):
    assert parse(stored, "d").columns == COLUMNS


def test_columns_need_a_positive_shape():
    with pytest.raises(InputError, match=r"toy: column 'x': got \(2, 0\); every dimension is at least 1"):
        check_columns([Column("x", "<f4", (2, 0), "1", "input")], "toy")


def test_columns_are_not_empty():
    with pytest.raises(InputError, match=r"toy: columns: got \[\]; at least one column is required"):
        check_columns([], "toy")


@pytest.mark.parametrize("bad", [("<i4", ()), ("<i8", (1,))])
def test_the_id_is_an_int64_scalar(bad):
    columns = [*copy.copy(COLUMNS[:-1]), Column("sample_id", *bad, "1", "id")]
    with pytest.raises(InputError, match="an int64 scalar"):
        id_column(columns, "toy")
