"""Every corruption is found, named where it can be, and never read as data."""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ristune.data.columns import Column
from ristune.data.dataset import open_dataset
from ristune.data.layout import view
from ristune.data.manifest import MANIFEST, PIN, Generator, Manifest, Shard, Split, pin
from ristune.data.shards import _row_groups, encode
from ristune.data.verify import verify
from ristune.data.writing.source import Simulated
from ristune.data.writing.statistics import moments, summarise
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.storage.access import open_storage
from tests.data.drawing import Drawing

CORRUPTIONS = 1000


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound") / "d"
    write_dataset(str(root), Simulated(Drawing(), {"train": 20, "val": 6, "test": 4}, 3, 12))
    return root


@pytest.fixture
def root(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "d"))


def found(root):
    return [str(finding) for finding in verify(open_storage(str(root)))]


def read_ranges(root):
    """Every value, by byte ranges whose CRC is checked."""
    dataset = open_dataset(str(root))
    tensors = {}
    for split in dataset.manifest.splits:
        tensors |= {(split, name): tensor for name, tensor in dataset.split(split).items()}
    for table in dataset.manifest.tables:
        tensors |= {(table, name): tensor for name, tensor in dataset.table(table).items()}
    return tensors


def read_whole(root):
    """Every value, from whole files whose sha256 is checked."""
    dataset = open_dataset(str(root))
    splits = {split: dataset.resident(split, dataset.rows(split)).rows for split in dataset.manifest.splits}
    return {
        (split, name): torch.from_numpy(view(rows, *place))
        for split, rows in splits.items()
        for name, place in dataset.layout.places.items()
    }


def alter_bytes(data, rng):
    """Other bytes than `data`, by one of the ways in which files go wrong."""
    altered, at = bytearray(data), int(rng.integers(len(data)))
    length = int(min(len(data) - at, rng.integers(1, 64)))
    match rng.integers(8):
        case 0:
            altered[at] ^= 1 << int(rng.integers(8))
        case 1:
            altered[at] = int(rng.integers(256))
        case 2:
            altered[at : at + length] = bytes(length)
        case 3:
            other = int(rng.integers(len(data) - length + 1))
            one, two = bytes(data[at : at + length]), bytes(data[other : other + length])
            altered[at : at + length], altered[other : other + length] = two, one
        case 4:
            del altered[at:]
        case 5:
            altered += rng.bytes(length)
        case 6:
            del altered[at : at + length]
        case 7:
            altered[at:at] = rng.bytes(length)
    return bytes(altered)


def digit(data, rng):
    """The manifest with another digit somewhere, so that its form stays canonical."""
    places = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    altered = bytearray(data)
    at = places[int(rng.integers(len(places)))]
    altered[at] = ord(str((int(chr(altered[at])) + int(rng.integers(1, 10))) % 10))
    return bytes(altered)


def corrupt(files, rng):
    """Other files than `files`, which are bytes by path."""
    paths, altered = sorted(files), dict(files)
    path = paths[int(rng.integers(len(paths)))]
    match rng.integers(8):
        case 0:
            del altered[path]
        case 1:
            other = paths[int(rng.integers(len(paths)))]
            altered[path], altered[other] = files[other], files[path]
        case 2:
            altered[f"{Path(path).parent}/{rng.integers(10**6)}.bin"] = rng.bytes(10)
        case 3:
            altered[MANIFEST] = digit(files[MANIFEST], rng)
        case 4:
            altered[PIN] = hashlib.sha256(rng.bytes(4)).hexdigest().encode() + files[PIN][64:]
        case _:
            altered[path] = alter_bytes(files[path], rng)
    return altered


def lay(root, files, before):
    for path in before.keys() - files.keys():
        (root / path).unlink()
    for path, data in files.items():
        if before.get(path) != data:
            (root / path).write_bytes(data)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_thousand_corruptions_are_all_found_and_never_read_as_other_values(root):
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    originals = {read: read(root) for read in (read_ranges, read_whole)}
    rng, missed, harmless, done = np.random.default_rng(0), [], {read: 0 for read in originals}, 0
    while done < CORRUPTIONS:
        altered = corrupt(files, rng)
        if altered == files:
            continue
        done += 1
        lay(root, altered, files)
        if not found(root):
            missed.append(sorted(p for p in altered | files if altered.get(p) != files.get(p)))
        # By turns, as each would take as long as all the rest.
        read = (read_ranges, read_whole)[done % 2]
        try:
            values = read(root)
        except InputError as error:
            assert str(root) in str(error)
        else:
            harmless[read] += 1
            assert same(values, originals[read])
        lay(root, files, altered)
    assert missed == []
    # A stray file harms no reader, an altered footer none that reads by ranges; the rest was refused.
    assert harmless[read_whole] < harmless[read_ranges] < CORRUPTIONS / 4
    assert found(root) == []


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


COLUMNS = (
    Column("x", "<f4", (3,), "V", "input"),
    Column("n", "<i4", (), "1", "label"),
    Column("sample_id", "<i8", (), "1", "id"),
)
FORM = {
    "row_group_size": 8,
    "compression": "NONE",
    "use_dictionary": False,
    "column_encoding": "PLAIN",
    "write_statistics": ["n", "sample_id"],
    "write_page_checksum": True,
}


def by_hand(root, arrays, statistics=None, fields=None, alter=bytes, describe=lambda shard: shard, **form):
    """A dataset as someone without ristune would write it, checked by nothing."""
    splits = {}
    for split, values in arrays.items():
        stored = [
            pa.field(
                c.name,
                pa.binary(12) if c.shape else pa.from_numpy_dtype(c.dtype),
                nullable=False,
                metadata={"shape": json.dumps(c.shape), "dtype": c.dtype, "unit": c.unit, "role": c.role},
            )
            for c in COLUMNS
        ]
        stored = [(fields or {}).get(each.name, lambda field: field)(each) for each in stored]
        x = pa.array([row.tobytes() for row in values["x"]], stored[0].type)
        table = pa.table([x, values["n"], values["sample_id"]], schema=pa.schema(stored))
        path = root / split / "0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path, **{**FORM, **form})
        data = alter(path.read_bytes())
        path.write_bytes(data)
        groups = _row_groups(memoryview(data))
        shard = Shard(f"{split}/0.parquet", len(x), len(data), hashlib.sha256(data).hexdigest(), groups)
        splits[split] = Split((describe(shard),), len(x))
    generator = Generator("hand", "1", {}, 0)
    stored = Manifest(COLUMNS, {}, generator, splits, statistics or {}).encode()
    (root / MANIFEST).write_bytes(stored)
    (root / PIN).write_bytes(pin(hashlib.sha256(stored).hexdigest()))
    return root


def sample(rows, first=0):
    rng = np.random.default_rng(first)
    return {
        "x": rng.normal(size=(rows, 3)).astype("<f4"),
        "n": rng.integers(0, 5, rows).astype("<i4"),
        "sample_id": np.arange(first, first + rows),
    }


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
