"""Bytes that go wrong anywhere in a dataset."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ristune.data.dataset import open_dataset
from ristune.data.layout import view
from ristune.data.manifest import MANIFEST, PIN
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.by_hand import found
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
