"""A dataset whose hashes all fit, and whose files say what is not so: verify finds it and never breaks."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ristune.data.columns import Column
from ristune.data.shards import _row_groups
from ristune.data.thrift import read_struct
from ristune.data.writing.statistics import moments, summarise
from tests.data.by_hand import COLUMNS, by_hand, found, sample

LEAST, GREATEST = -123_456, 7_654_321


def marked(rows=20):
    """Rows whose least and greatest `n` are known by their bytes."""
    arrays = sample(rows)
    arrays["n"][[0, 8, 16]], arrays["n"][[1, 9, 17]] = LEAST, GREATEST
    return arrays


def in_footer(old, new):
    """Other bytes in the footer, wherever the old ones are."""

    def alter(data):
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        assert old in data[start:] and len(old) == len(new)
        return data[:start] + data[start:].replace(old, new)

    return alter


def in_page(old, new, at=0):
    """Other bytes in the header of the first page."""

    def alter(data):
        (chunk, *_) = _row_groups(memoryview(data))[0].columns.values()
        first = chunk.offset + at
        place = data.index(old, first)
        assert place < first + 64
        return data[:place] + new + data[place + len(old) :]

    return alter


def number(value):
    return value.to_bytes(4, "little", signed=True)


# Zigzag varints: 96 bytes, 8 values.
BYTES, OTHER_BYTES, VALUES, OTHER_VALUES = b"\xc0\x01", b"\xc2\x01", b"\x10", b"\x0e"


@pytest.mark.parametrize(
    ("alter", "fault"),
    [
        (
            in_footer(number(GREATEST), number(5)),
            f"column 'n': its statistics say {LEAST} to 5, it has values from {LEAST} to {GREATEST}; write",
        ),
        (in_footer(number(LEAST), number(2)), f"column 'n': its statistics say 2 to {GREATEST}, it has"),
        (
            in_footer(
                b"\x04" + number(GREATEST) + b"\x18\x04" + number(LEAST) + b"\x16",
                b"\x04" + number(5) + b"\x18\x04" + number(LEAST) + b"\x16",
            ),
            f"column 'n': its statistics say {LEAST} to 5, it has",
        ),
        (
            in_footer(number(LEAST) + b"\x16\x00", number(LEAST) + b"\x16\x02"),
            "column 'n': its statistics count 1 nulls, and there are none",
        ),
        (lambda data: b"PAR2" + data[4:], "train/0.parquet: a Parquet file begins with b'PAR1', this one do"),
        (
            in_page(b"\x15\x00\x15" + BYTES, b"\x15\x00\x15" + OTHER_BYTES),
            "header says 97 bytes uncompressed",
        ),
        (
            in_page(b"\x1c\x15" + VALUES, b"\x1c\x15" + OTHER_VALUES),
            "8 values in encoding 0 are required, its",
        ),
    ],
)
def test_what_footer_and_pages_say_is_held_against_the_data(tmp_path, alter, fault):
    lines = found(by_hand(tmp_path, {"train": marked()}, alter=alter))
    assert lines and all(fault in line for line in lines), lines


@pytest.mark.parametrize("stored", [b"\x02\x01\x01", b"\x00", b"\x05" + number(GREATEST) + b"\x00"])
def test_statistics_of_another_length_are_a_finding(tmp_path, stored):
    def alter(data):
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        footer = data[start:-8].replace(b"\x04" + number(GREATEST), stored)
        return data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1"

    lines = found(by_hand(tmp_path, {"train": marked()}, alter=alter))
    assert lines and all("column 'n': its statistics are not of 4 bytes" in line for line in lines), lines


def test_a_filter_by_false_statistics_would_lose_rows(tmp_path):
    root = by_hand(tmp_path, {"train": marked()}, alter=in_footer(number(GREATEST), number(5)))
    assert pq.read_table(root / "train/0.parquet", filters=[("n", ">", 100)]).num_rows == 0


@pytest.mark.parametrize(
    ("codec_to_size", "fault"),
    [
        (b"\x01x\x15\x00\x16" + OTHER_VALUES + b"\x16", "the footer says 7 values, these are 8"),
        (None, "bytes uncompressed, these are"),
    ],
)
def test_counts_in_the_footer_are_held_against_the_manifest(tmp_path, codec_to_size, fault):
    head = b"\x01x\x15\x00\x16" + VALUES + b"\x16"

    def alter(data):
        if codec_to_size:
            return data.replace(head, codec_to_size)
        at = data.index(head) + len(head)
        return data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :]

    lines = found(by_hand(tmp_path, {"train": sample(8)}, alter=alter))
    assert lines and all(fault in line for line in lines), lines


@pytest.mark.parametrize(
    ("name", "kind", "read_as"),
    [
        ("n", pa.date32(), "date32[day], int32 is required"),
        ("n", pa.time32("ms"), "time32[ms], int32"),
        ("n", pa.uint32(), "uint32, int32"),
        ("sample_id", pa.timestamp("us"), "timestamp[us], int64"),
        ("sample_id", pa.duration("us"), "duration[us], int64"),
    ],
)
def test_a_type_that_others_read_as_something_else_is_found(tmp_path, name, kind, read_as):
    lines = found(by_hand(tmp_path, {"train": sample(20)}, fields={name: lambda f: f.with_type(kind)}))
    assert f"train/0.parquet, column {name!r}: other tools read it as {read_as}" in lines[0]


@pytest.mark.parametrize("key", [b"unit", b"\xff\xfe"])
def test_metadata_that_are_no_text_are_a_finding(tmp_path, key):
    fields = {"x": lambda field: field.with_metadata({**field.metadata, b"unit": b"W", key: b"\xff"})}
    (line,) = found(by_hand(tmp_path, {"train": sample(20)}, fields=fields))
    assert "column 'x': its field metadata has unit=" in line


@pytest.mark.parametrize("header", [b"\x1c" * 5000, b"\x15" + b"\x80" * 5000, b"\x19" * 5000])
def test_a_page_header_without_end_is_no_end_of_the_search(header):
    with pytest.raises(ValueError, match="nested deeper than 16|more than 64 bits"):
        read_struct(memoryview(header), 0)


@pytest.mark.parametrize(("value", "sound"), [(255, True), (256, False), (-1, False)])
def test_narrow_scalars_are_held_against_their_range(tmp_path, monkeypatch, value, sound):
    monkeypatch.setattr(
        "tests.data.by_hand.COLUMNS", (COLUMNS[0], Column("n", "|u1", (), "1", "label"), COLUMNS[2])
    )
    arrays = sample(20)
    arrays["n"][13] = value
    lines = found(by_hand(tmp_path, {"train": arrays}, fields={"n": lambda f: f.with_type(pa.int32())}))
    assert bool(lines) != sound
    assert all("row group 1, column 'n': values from " in line and "do not fit |u1" in line for line in lines)


LARGE = 2**62 + 1


@pytest.mark.parametrize("stored", [int, float])
def test_statistics_of_large_integers_are_those_of_float64_or_the_very_integers(tmp_path, stored):
    arrays = sample(20)
    arrays["sample_id"] += LARGE
    right = summarise([moments(arrays["sample_id"])])
    ends = {"min": stored(LARGE), "max": stored(LARGE + 19)}
    assert found(by_hand(tmp_path, {"train": arrays}, {"sample_id": replace(right, **ends)})) == []


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({}, 0),
        ({"std": 1.1}, 1),
        ({"std": 0.0}, 1),
        ({"std": 1.0 + 1e-7}, 0),
        ({"mean": 1e6 * (1 + 1e-7)}, 0),
    ],
)
def test_the_spread_has_a_tolerance_of_its_own(tmp_path, change, faults):
    arrays = sample(20)
    arrays["n"] = np.tile(np.array([999_999, 1_000_001], "<i4"), 10)
    right = summarise([moments(arrays["n"])])
    assert (right.mean, right.std) == (1e6, 1.0)
    assert len(found(by_hand(tmp_path, {"train": arrays}, {"n": replace(right, **change)}))) == faults


@pytest.mark.parametrize(("mean", "faults"), [(1e-7, 0), (1e-3, 1)])
def test_a_mean_near_zero_is_held_against_the_spread(tmp_path, mean, faults):
    arrays = sample(20)
    arrays["n"] = np.tile(np.array([-1, 1], "<i4"), 10)
    right = summarise([moments(arrays["n"])])
    assert len(found(by_hand(tmp_path, {"train": arrays}, {"n": replace(right, mean=mean)}))) == faults


def test_what_an_interrupted_write_left_is_found(tmp_path):
    root = by_hand(tmp_path, {"train": sample(20)})
    for path in ("train/.1.parquet.0a1b.tmp", ".manifest.json.0a1b.tmp"):
        (root / path).write_bytes(b"PAR1")
    lines = found(root)
    assert [line.split(":")[0] for line in lines] == [".manifest.json.0a1b.tmp", "train/.1.parquet.0a1b.tmp"]
    assert all("a write that was interrupted left it behind; delete it" in line for line in lines)


def test_parameters_that_are_nested_without_end_are_a_finding(tmp_path):
    root = by_hand(tmp_path, {"train": sample(20)})
    document = json.loads((root / "manifest.json").read_bytes())
    for _ in range(900):
        document["generator"]["parameters"] = {"a": document["generator"]["parameters"]}
    (root / "manifest.json").write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
    (line,) = found(root)
    assert "objects and arrays are nested at most 100 deep" in line
