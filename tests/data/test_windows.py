"""Windows of row groups, mapped from local files or read from a store."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from ristune.data import mapping
from ristune.data.dataset import open_dataset
from ristune.data.mapping import MappedReader, window_reader
from ristune.data.windows import RowReader
from ristune.errors import InputError
from tests.data.drawing import COLUMNS
from tests.data.streaming import ids, read, stream, written

EVERY = [column.name for column in COLUMNS]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return written(tmp_path_factory.mktemp("windows"))


def test_a_window_reads_only_row_groups_it_visits(dataset, monkeypatch):
    sizes = []
    original = type(dataset.storage.open("train/00000.parquet")).read_into
    monkeypatch.setattr(
        "ristune.storage.local.LocalReader.read_into",
        lambda self, offset, buffer: (sizes.append(len(buffer)), original(self, offset, buffer))[1],
    )
    batches = read(dataset, window=2, batch_size=10, limit=40)
    list(batches.epoch(0))
    assert len(sizes) == 9
    sizes.clear()
    # Two groups a window, ten samples: the second batch on needs none of the first window.
    list(batches.epoch(0, start=2))
    assert 4 <= len(sizes) <= 6


def test_a_reader_of_many_files_holds_few_open(dataset, monkeypatch):
    monkeypatch.setattr("ristune.data.reading.OPEN_FILES", 1)
    expected = ids(stream(dataset, mode="cached").epoch(0))
    batches = read(dataset)
    assert ids(batches.epoch(0)) == expected


def test_after_an_error_reads_that_have_not_begun_are_not_made(dataset, monkeypatch):
    calls = []

    def fail(self, *arguments):
        calls.append(arguments)
        time.sleep(0.05)
        raise InputError("x", 1, "a store that does not answer", "none")

    monkeypatch.setattr("ristune.data.reading.GroupReader.read_rows", fail)
    with pytest.raises(InputError, match="a store that does not answer"):
        list(read(dataset, window=50).epoch(0))
    # As many as there are threads, and those that began while the first failed; not all eighteen.
    assert len(calls) < 18


def mapped(root):
    batches = stream(open_dataset(str(root)), mode="windowed", window=2)
    if not mapping._populates():
        pytest.skip("this kernel does not bring pages in when asked")
    return batches


@pytest.fixture
def root(dataset, tmp_path):
    shutil.copytree(dataset.uri, tmp_path / "d")
    return tmp_path / "d"


def test_local_files_are_mapped_once_and_closed(root):
    def there():
        return Path("/proc/self/maps").read_text().count(str(root)), len(os.listdir("/proc/self/fd"))

    before = there()
    batches = mapped(root)
    assert there() == (before[0] + 1, before[1])
    for epoch in range(3):
        list(batches.epoch(epoch))
        assert there() == (before[0] + 3, before[1])
    del batches
    assert there() == before


@pytest.mark.parametrize("where", ["wave", "power", "sample_id"])
def test_an_altered_byte_is_found_and_named(root, where):
    dataset = open_dataset(str(root))
    shard = dataset.manifest.splits["train"].shards[1]
    chunk = shard.row_groups[3].columns[where]
    path = root / shard.path
    data = bytearray(path.read_bytes())
    data[chunk.offset + chunk.length - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=f"{shard.path}: got 'row group 3, column {where}'; the bytes are not"
    ):
        list(mapped(root).epoch(0))


def test_a_byte_altered_between_two_epochs_is_found(root):
    batches = mapped(root)
    list(batches.epoch(0))
    path = root / "train/00002.parquet"
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"x" * 100)
    with pytest.raises(InputError, match="train/00002.parquet: got 'row group 0, column "):
        list(batches.epoch(1))


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_file_that_is_cut_short_is_named(root, epochs):
    batches = mapped(root)
    for epoch in range(epochs):
        list(batches.epoch(epoch))
    os.truncate(root / "train/00001.parquet", 1000)
    with pytest.raises(InputError, match="train/00001.parquet of .*got '1000 bytes'; a file of "):
        list(batches.epoch(5))


def test_a_file_that_goes_missing_is_named(root):
    batches = mapped(root)
    (root / "train/00001.parquet").unlink()
    with pytest.raises(InputError, match="train/00001.parquet: got .No such file"):
        list(batches.epoch(0))


def test_pages_that_cannot_be_brought_are_an_error(root, monkeypatch):
    batches = mapped(root)
    for number, why in [
        (errno.EFAULT, "the disk failed, or the file was cut"),
        (errno.ENOMEM, "Cannot alloc"),
    ]:
        monkeypatch.setattr(mapping, "advise", lambda memory, advice, number=number: number)
        with pytest.raises(InputError, match=f"bytes .* to .*; they cannot be read: {why}"):
            list(batches.epoch(0))


def test_pages_are_brought_again_where_the_system_does_not_say_that_they_are_there(root, monkeypatch):
    batches, asked, original = mapped(root), [], mapping.advise
    monkeypatch.setattr(mapping, "advise", lambda *which: (asked.append(which[1]), original(*which))[1])
    list(batches.epoch(0))
    groups = len(asked)
    list(batches.epoch(1))
    assert len(asked) == groups == 18
    # To who may not write to a file Linux says that all of it is there.
    monkeypatch.setattr(mapping.os, "access", lambda path, mode: False)
    list(batches.epoch(2))
    assert len(asked) == 2 * groups


def test_a_file_that_cannot_be_mapped_in_an_epoch_is_named(root, monkeypatch):
    batches = mapped(root)

    def refused(*arguments):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mapping, "map_over", refused)
    with pytest.raises(InputError, match=r"parquet of .*can be mapped is required .Cannot allocate memory"):
        list(batches.epoch(0))


def test_where_files_cannot_be_mapped_they_are_read(root, monkeypatch):
    dataset = open_dataset(str(root))
    expected = ids(stream(dataset, mode="windowed").epoch(0))
    assert isinstance(window_reader(dataset, "train", EVERY, 3), MappedReader)

    def refused(*arguments):
        raise OSError(errno.ENODEV, "No such device")

    with monkeypatch.context() as patch:
        patch.setattr(mapping, "_populates", lambda: False)
        assert isinstance(window_reader(dataset, "train", EVERY, 3), RowReader)
        assert ids(stream(dataset, mode="windowed").epoch(0)) == expected
    for changed in [("reserved", refused), ("map_over", refused), ("MOST_FILES", 2)]:
        with monkeypatch.context() as patch:
            patch.setattr(mapping, "_populates", lambda: True)
            patch.setattr(mapping, *changed)
            assert isinstance(window_reader(dataset, "train", EVERY, 3), RowReader)
