import hashlib
import json
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ristune.data.columns import DTYPES, Column
from ristune.data.shards import decode, encode, row_bytes
from ristune.data.writing.statistics import BLOCK, moments, summarise
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, draw


def plain_pyarrow(data, columns):
    """All columns by pyarrow alone, with its own check of page CRCs."""
    table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read().combine_chunks()
    arrays = {}
    for column in columns:
        field, values = table.schema.field(column.name), table.column(column.name)
        metadata = {key.decode(): text.decode() for key, text in field.metadata.items()}
        assert not field.nullable
        assert (metadata["dtype"], metadata["unit"], metadata["role"]) == (
            column.dtype,
            column.unit,
            column.role,
        )
        shape = tuple(json.loads(metadata["shape"]))
        assert shape == column.shape
        if shape:
            flat = np.frombuffer(b"".join(values.to_pylist()), metadata["dtype"])
            arrays[column.name] = flat.reshape(len(values), *shape)
        else:
            arrays[column.name] = values.to_numpy()
    return arrays


def assert_same(one, other):
    assert sorted(one) == sorted(other)
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        np.testing.assert_array_equal(array, other[name])


def varint(data, at):
    value, shift = 0, 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at


def compact_struct(data, at):
    """The fields of a Thrift struct in the compact protocol, and where it ends."""
    fields, number = {}, 0
    while data[at]:
        kind, delta = data[at] & 15, data[at] >> 4
        at += 1
        assert delta, "page headers use short field ids"
        number += delta
        if kind in (1, 2):
            fields[number] = kind == 1
        elif kind in (4, 5, 6):
            raw, at = varint(data, at)
            fields[number] = (raw >> 1) ^ -(raw & 1)
        elif kind == 8:
            length, at = varint(data, at)
            fields[number], at = bytes(data[at : at + length]), at + length
        else:
            assert kind == 12
            fields[number], at = compact_struct(data, at)
    return fields, at + 1


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 300])
@pytest.mark.parametrize("row_group_bytes", [1, 500, 10_000, 8 * 2**20])
def test_a_shard_decodes_to_what_was_written(rows, row_group_bytes):
    arrays = draw(rows)
    data, shard = encode("train/00000.parquet", COLUMNS, arrays, row_group_bytes)
    assert_same(decode(data, shard, COLUMNS), arrays)
    assert shard.rows == rows == sum(group.rows for group in shard.row_groups)


@pytest.mark.parametrize("rows", [1, 50])
def test_plain_pyarrow_reads_a_shard_identically(rows):
    arrays = draw(rows)
    data, _ = encode("x", COLUMNS, arrays, row_group_bytes=1000)
    assert_same(plain_pyarrow(data, COLUMNS), arrays)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 2)])
def test_every_dtype_keeps_its_type_and_its_extremes(dtype, shape):
    kind = np.dtype(dtype)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    array = np.zeros((4, *shape), dtype)
    array[0], array[1] = limits.min, limits.max
    columns = [Column("x", dtype, shape, "1", "input")]
    data, shard = encode("x", columns, {"x": array}, row_group_bytes=20)
    assert_same(decode(data, shard, columns), {"x": array})
    assert_same(plain_pyarrow(data, columns), {"x": array})


def test_row_groups_have_about_the_size_asked_for():
    _, shard = encode("x", COLUMNS, draw(500), row_group_bytes=4000)
    rows = [group.rows for group in shard.row_groups]
    assert rows == [4000 // row_bytes(COLUMNS)] * (len(rows) - 1) + [rows[-1]]
    assert len(rows) == 9


def test_a_column_chunk_is_one_plain_page_with_its_crc():
    # More rows than the 20 000 and more bytes than the 1 MB at which pyarrow ends a page by itself.
    rows = 30_000
    columns = [Column("x", "<f4", (20,), "1", "input"), Column("s", "<i8", (), "1", "id")]
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(rows, 20)).astype("<f4"), "s": np.arange(rows)}
    data, shard = encode("x", columns, arrays)
    footer = pq.read_metadata(pa.BufferReader(data))
    assert footer.num_row_groups == len(shard.row_groups) == 1
    for position, column in enumerate(columns):
        chunk = shard.row_groups[0].columns[column.name]
        end = chunk.offset + chunk.length
        header, body = compact_struct(data, chunk.offset)
        assert (header[1], header[2], header[3]) == (0, end - body, end - body)
        assert end - body == rows * column.stored_width
        assert header[4] & 0xFFFFFFFF == zlib.crc32(data[body:end])
        assert header[5][1] == rows
        assert header[5][2] == 0
        described = footer.row_group(0).column(position)
        assert described.compression == "UNCOMPRESSED"
        assert described.dictionary_page_offset is None
        assert (described.statistics is None) == bool(column.shape)
    assert footer.row_group(0).column(1).statistics.max == rows - 1


def test_a_page_that_pyarrow_splits_is_noticed_at_writing(monkeypatch):
    monkeypatch.setattr("ristune.data.shards.UNLIMITED", 1000)
    columns = [Column("x", "<f4", (20,), "1", "input")]
    array = np.random.default_rng(0).normal(size=(5000, 20)).astype("<f4")
    with pytest.raises(RuntimeError, match="did not write column 'x' as one page"):
        encode("x", columns, {"x": array})


def test_hash_and_size_are_those_of_the_file():
    data, shard = encode("a/b", COLUMNS, draw(9))
    assert (shard.path, shard.bytes) == ("a/b", len(data))
    assert shard.sha256 == hashlib.sha256(data).hexdigest()


def test_the_same_arrays_give_the_same_bytes():
    assert bytes(encode("x", COLUMNS, draw(20))[0]) == bytes(encode("x", COLUMNS, draw(20))[0])


def test_some_columns_can_be_read_alone():
    arrays = draw(30)
    data, shard = encode("x", COLUMNS, arrays, row_group_bytes=500)
    decoded = decode(data, shard, [COLUMNS[4], COLUMNS[1]])
    assert list(decoded) == ["bits", "channel"]
    np.testing.assert_array_equal(decoded["channel"], arrays["channel"])


def test_decoded_arrays_become_tensors_without_a_warning_and_share_nothing_with_the_file():
    data, shard = encode("x", COLUMNS, draw(5))
    kept = bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = {name: torch.from_numpy(array) for name, array in decode(kept, shard, COLUMNS).items()}
    tensors["wave"].zero_()
    assert kept == bytes(data)


def test_arrays_that_are_not_contiguous_are_written_as_their_values():
    array = np.arange(24, dtype="<f4").reshape(2, 3, 4).transpose(2, 1, 0)
    columns = [Column("x", "<f4", (3, 2), "1", "input")]
    data, shard = encode("x", columns, {"x": array})
    np.testing.assert_array_equal(decode(data, shard, columns)["x"], array)


@pytest.mark.parametrize("missing", [1, 7, 1000])
def test_a_truncated_shard_is_refused(missing):
    data, shard = encode("train/00003.parquet", COLUMNS, draw(40))
    kept = len(data) - missing
    rule = f"/d/train/00003.parquet: got '{kept} bytes'; the manifest says {len(data)} bytes; .* write the"
    with pytest.raises(InputError, match=rule):
        decode(data[:-missing], shard, COLUMNS, "/d")


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_a_flipped_byte_is_refused(place):
    data, shard = encode("val/00000.parquet", COLUMNS, draw(40))
    altered = bytearray(data)
    altered[int(place * len(data))] ^= 1
    found = hashlib.sha256(altered).hexdigest()
    rule = f"val/00000.parquet: got 'sha256 {found}'; the manifest says sha256 {shard.sha256}"
    with pytest.raises(InputError, match=f"{rule}; the file is truncated or altered"):
        decode(bytes(altered), shard, COLUMNS)


def test_a_wrong_byte_range_is_not_hidden_by_the_footer():
    arrays = draw(10)
    data, shard = encode("x", COLUMNS, arrays)
    group = shard.row_groups[0]
    swapped = {**group.columns, "wave": group.columns["code"]}
    wrong = replace(shard, row_groups=(replace(group, columns=swapped),))
    assert not np.array_equal(decode(data, wrong, COLUMNS[:1])["wave"], arrays["wave"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["wave", "channel", "power", "gain"])
def test_a_value_that_is_not_finite_is_refused_with_column_and_row(name, value):
    arrays = draw(20)
    arrays[name].reshape(20, -1)[13, -1] = value
    with pytest.raises(
        InputError, match=rf"x: column '{name}': got {value}; row 13: every value must be finite"
    ):
        encode("x", COLUMNS, arrays)


@pytest.mark.parametrize(
    ("name", "array", "rule"),
    [
        ("wave", np.zeros((4, 3, 2)), "column 'wave': got '<f8'; dtype <f4 is declared"),
        ("wave", np.zeros((4, 3, 2), ">f4"), "column 'wave': got '>f4'; dtype <f4 is declared"),
        ("wave", np.zeros((4, 2, 3), "<f4"), r"got \(4, 2, 3\); shape \(4, 3, 2\) is required"),
        ("power", np.zeros(3), r"column 'power': got \(3,\); shape \(4,\) is required"),
        ("extra", np.zeros(4), "x: columns: got .*'extra'.*the columns declared are bits, channel"),
    ],
)
def test_arrays_other_than_declared_are_refused(name, array, rule):
    with pytest.raises(InputError, match=rule):
        encode("x", COLUMNS, {**draw(4), name: array})


def test_a_shard_without_rows_is_refused():
    with pytest.raises(InputError, match="x: rows: got 0; a file has at least one row"):
        encode("x", COLUMNS, {name: array[:0] for name, array in draw(1).items()})


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "|u1", "<i8"])
@pytest.mark.parametrize("parts", [1, 3, 7])
def test_statistics_do_not_depend_on_how_the_column_is_cut(dtype, parts):
    array = (np.random.default_rng(3).normal(size=(BLOCK // 4 + 3, 5)) * 20 + 100).astype(dtype)
    found = summarise(moments(piece) for piece in np.array_split(array, parts))
    exact = array.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert found.std == pytest.approx(exact.std(), rel=1e-12)
    assert (found.min, found.max) == (exact.min(), exact.max())


def test_the_spread_survives_a_large_mean():
    array = 1e9 + np.array([-1.0, 1.0] * 1000)
    assert summarise([moments(array[:999]), moments(array[999:])]).std == pytest.approx(1.0, rel=1e-9)
