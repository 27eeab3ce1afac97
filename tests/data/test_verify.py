"""Every corruption is found, named where it can be, and never read as data."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ristune.data.manifest import MANIFEST, PIN
from ristune.data.shards import _row_groups, encode
from ristune.data.verify import verify
from ristune.data.writing.source import Simulated
from ristune.data.writing.statistics import moments, summarise
from ristune.data.writing.writer import write_dataset
from ristune.storage.access import open_storage
from tests.data.by_hand import by_hand, found, sample
from tests.data.drawing import Drawing


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound") / "d"
    write_dataset(str(root), Simulated(Drawing(), {"train": 20, "val": 6, "test": 4}, 3, 12))
    return root


@pytest.fixture
def root(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "d"))


@pytest.mark.parametrize("column", ["wave", "gain", "sample_id"])
@pytest.mark.parametrize("group", [0, 2])
def test_a_flipped_byte_is_named_by_shard_row_group_and_column(tmp_path, monkeypatch, column, group):
    monkeypatch.setattr("ristune.data.writing.written.encode", partial(encode, row_group_bytes=300))
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 20}, 3))
    path = tmp_path / "d/train/00000.parquet"
    chunk = manifest.splits["train"].shards[0].row_groups[group].columns[column]
    altered = bytearray(path.read_bytes())
    altered[chunk.offset + chunk.length - 1] ^= 4
    path.write_bytes(altered)
    first, second = found(tmp_path / "d")
    assert first.startswith(
        f"train/00000.parquet, row group {group}, column {column!r}: its bytes were altered"
    )
    assert second.startswith("train/00000.parquet: its sha256 is")
    assert "altered in 1 of its column chunks; copy the file again" in second


def test_a_fault_does_not_end_the_search(root):
    (root / "train/00001.parquet").unlink()
    (root / "test/00000.parquet").write_bytes(b"PAR1")
    (root / "tables/notes.txt").write_text("mine")
    (root / PIN).write_text("0" * 64 + f"  {MANIFEST}\n")
    lines = found(root)
    places = [line.split(":")[0].split(",")[0] for line in lines]
    assert places[:3] == [PIN, "tables/notes.txt", "train/00001.parquet"]
    assert set(places[3:]) == {"test/00000.parquet"}
    assert all("\n" not in line and ";" in line for line in lines)


def test_the_manifest_alone_is_named_where_nothing_can_be_checked_without_it(root):
    (root / MANIFEST).write_bytes((root / MANIFEST).read_bytes()[:-1])
    (line,) = found(root)
    assert line.startswith(f"{MANIFEST}: got ") and "a JSON document is required" in line


def test_progress_counts_every_byte(root):
    counts = []
    assert list(verify(open_storage(str(root)), lambda *pair: counts.append(pair))) == []
    assert (
        sum(done for done, _ in counts)
        == counts[0][1]
        == sum(p.stat().st_size for p in root.rglob("*.parquet"))
    )


def test_a_dataset_by_hand_is_sound(tmp_path):
    assert found(by_hand(tmp_path, {"train": sample(20), "val": sample(5, 20)})) == []


def test_spaces_in_a_shape_do_not_matter(tmp_path):
    fields = {"x": lambda field: field.with_metadata({**field.metadata, b"shape": b"[ 3]"})}
    assert found(by_hand(tmp_path, {"train": sample(20)}, fields=fields)) == []


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"compression": "zstd"}, "column 'x': it is compressed with ZSTD"),
        ({"use_dictionary": ["n"], "column_encoding": None}, "column 'n': it has a dictionary"),
        (
            {"column_encoding": {"n": "DELTA_BINARY_PACKED"}},
            "column 'n': one page of 8 * 4 = 32 bytes is req",
        ),
        (
            {"column_encoding": {"x": "BYTE_STREAM_SPLIT"}},
            "in encoding 0 are required, its page has 8 in encod",
        ),
        ({"data_page_version": "2.0"}, "a data page of version 1 is required, this page is of type 3"),
        ({"max_rows_per_page": 3}, "one page of 8 * 12 = 96 bytes is required, its first page has 36 of"),
        ({"write_page_checksum": False}, "column 'sample_id': its page has no CRC"),
        ({"write_statistics": False}, "column 'n': a scalar has statistics, this one has none"),
        ({"fields": {"n": lambda f: f.with_nullable(True)}}, "column 'n': it may hold nulls or lists"),
        (
            {"fields": {"x": lambda f: f.with_metadata({**f.metadata, b"unit": b"W"})}},
            "column 'x': its field metadata has unit='W', the manifest says 'V'",
        ),
        (
            {"fields": {"x": lambda f: f.with_metadata({**f.metadata, b"shape": b"three"})}},
            "column 'x': its field metadata has shape='three', the manifest says '[3]'",
        ),
        ({"fields": {"x": lambda f: f.with_type(pa.binary())}}, "it is stored as BYTE_ARRAY of 0 bytes"),
        ({"fields": {"n": lambda f: f.with_type(pa.int64())}}, "it is stored as INT64 of"),
    ],
)
def test_a_file_that_others_wrote_is_held_against_the_format(tmp_path, form, fault):
    lines = found(by_hand(tmp_path, {"train": sample(20)}, **form))
    assert any(fault in line for line in lines), lines


def flip_last_value(data):
    """Of the first column of the first row group, without its page's CRC."""
    (chunk, *_) = _row_groups(memoryview(data))[0].columns.values()
    at = chunk.offset + chunk.length - 3
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_page_is_held_against_its_own_crc(tmp_path):
    (line,) = found(by_hand(tmp_path, {"train": sample(20)}, alter=flip_last_value))
    assert "row group 0, column 'x': its page has the CRC" in line


def with_groups(change):
    """Say something else of the row groups than the file does."""
    return lambda shard: replace(shard, row_groups=tuple(change(list(shard.row_groups))))


def swapped_chunks(groups):
    columns = groups[0].columns
    other = {**columns, "n": replace(columns["n"], offset=columns["n"].offset - 8)}
    return [replace(groups[0], columns=other), *groups[1:]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            swapped_chunks,
            "its bytes have another CRC-32 than the manifest says, though the file has its sha256",
        ),
        (
            lambda groups: [replace(groups[0], offset=0, bytes=10_000), *groups[1:]],
            "bytes 0 to 10000 lie beyond",
        ),
        (
            lambda groups: [replace(groups[0], offset=0, bytes=groups[0].bytes + 4), *groups[1:]],
            "train/0.parquet, row group 0: its columns lie at bytes 4 to",
        ),
        (
            lambda groups: [replace(groups[0], rows=4), replace(groups[1], rows=12), *groups[2:]],
            "are needed for 12 rows",
        ),
        (lambda groups: [groups[2], groups[0], groups[1]], "its footer has row groups of [8, 8, 4] rows"),
        (lambda groups: [groups[1], groups[0], groups[2]], "the footer says bytes"),
    ],
)
def test_byte_ranges_are_held_against_the_footer(tmp_path, change, fault):
    lines = found(by_hand(tmp_path, {"train": sample(20)}, describe=with_groups(change)))
    assert any(fault in line for line in lines), lines


def test_a_file_of_another_length_is_named_with_both_lengths(root):
    path = root / "val/00000.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    (line,) = [line for line in found(root) if "bytes, the manifest says" in line]
    assert line.startswith(f"val/00000.parquet: it has {path.stat().st_size} bytes")


def test_values_that_are_not_finite_are_named_by_row(tmp_path):
    arrays = sample(20)
    arrays["x"][13, 2] = np.nan
    (line,) = found(by_hand(tmp_path, {"train": arrays}))
    where = "train/0.parquet, row group 1, column 'x': 1 values are not finite, the first is nan in row 5 of"
    assert line.startswith(where)


def test_ids_that_occur_twice_are_found_within_and_across_splits(tmp_path):
    arrays = {"train": sample(20), "val": sample(5, 18)}
    arrays["train"]["sample_id"][3] = 11
    one, other = found(by_hand(tmp_path, arrays))
    assert one.startswith("split 'train': 1 ids occur twice, the first is 11;")
    assert other.startswith("splits 'train' and 'val': 2 ids occur twice, the first is 18;")


@pytest.mark.parametrize("change", [{"mean": 1.0}, {"std": 2.0}, {"min": -9.0}, {"max": 9.0}, {}])
def test_statistics_are_held_against_the_train_split(tmp_path, change):
    arrays = {"train": sample(20), "val": sample(5, 20)}
    right = summarise([moments(arrays["train"]["x"])])
    lines = found(by_hand(tmp_path, arrays, {"x": replace(right, **change)}))
    assert len(lines) == len(change)
    assert all(line.startswith("manifest.json: statistics.x: Statistics(") for line in lines)
