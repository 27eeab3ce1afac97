"""What a node keeps, and for how long."""

import errno
import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch

from ristune.data import cache as caching
from ristune.data.cache import NodeCache
from ristune.data.dataset import open_dataset
from ristune.data.entries import entries, evict, reserve, room
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.storage.local import LocalStorage
from tests.data.caching import SPAWN, nothing, opened, place, reads, written
from tests.data.drawing import Drawing


@pytest.fixture
def root(tmp_path):
    return written(tmp_path)


def test_a_split_is_fetched_once_and_found_by_the_next(root, tmp_path, monkeypatch):
    found = reads(monkeypatch)
    first = opened(root, tmp_path / "c").split("train")
    assert sorted(found) == [f"train/0000{index}.parquet" for index in range(5)]
    again = opened(root, tmp_path / "c").split("train")
    assert len(found) == 5
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_prefix_fetches_no_more_shards_than_it_needs_and_later_ones_go_on(root, tmp_path, monkeypatch):
    found = reads(monkeypatch)
    dataset = opened(root, tmp_path / "c")
    dataset.split("train", limit=9)
    assert sorted(found) == ["train/00000.parquet", "train/00001.parquet"]
    dataset.split("train")
    assert sorted(found[2:]) == [f"train/0000{index}.parquet" for index in (2, 3, 4)]
    assert torch.equal(dataset.split("train")["wave"], open_dataset(str(root)).split("train")["wave"])


def test_a_fetch_that_fails_leaves_nothing_and_can_be_made_again(root, tmp_path):
    (root / "train/00000.parquet").rename(root / "away")
    dataset = opened(root, tmp_path / "c")
    with pytest.raises(InputError, match="train/00000.parquet"):
        dataset.split("train")
    assert not list((tmp_path / "c").rglob("*.rows"))
    (root / "away").rename(root / "train/00000.parquet")
    assert len(dataset.split("train")["wave"]) == 40


def test_a_full_disk_is_a_clear_error_and_takes_no_room(root, tmp_path, monkeypatch):
    def full(descriptor, data, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match="data.cache: got .* GB are needed for train.*free some space"):
        opened(root, tmp_path / "c").split("train")
    assert not list((tmp_path / "c").rglob("*.rows"))


def test_too_little_room_is_found_before_any_byte_is_fetched(root, tmp_path, monkeypatch):
    found = reads(monkeypatch)
    with pytest.raises(
        InputError, match=r"data.cache: got '.*/c'; 0.000 GB are needed for train, .*data.cache_disk_gb"
    ):
        opened(root, tmp_path / "c", limit=2000).split("train")
    assert found == []


def test_whether_a_dataset_fits_is_known_beforehand(root, tmp_path):
    dataset = opened(root, tmp_path / "c")
    size = dataset.decoded_bytes
    for limit, fits in [(size, True), (size - 1, False)]:
        assert NodeCache((place(tmp_path / "c", limit),), print).fits(dataset.dataset_id, size) == fits
    dataset.split("val")
    assert not NodeCache((place(tmp_path / "c", size // 2),), print).fits(dataset.dataset_id, size)
    dataset.split("train"), dataset.table("codebook")
    (entry,) = entries(place(tmp_path / "c"))
    assert NodeCache((place(tmp_path / "c", entry.bytes),), print).fits(dataset.dataset_id, size)


def test_the_dataset_unused_for_longest_makes_room(tmp_path):
    for index in range(3):
        write_dataset(str(tmp_path / f"d{index}"), Simulated(Drawing(), {"train": 40}, index))
        opened(tmp_path / f"d{index}", tmp_path / "c").split("train")
        # Times of use are read from files, whose clock ticks every few milliseconds.
        time.sleep(0.02)
    opened(tmp_path / "d0", tmp_path / "c").split("train", ["power"])
    kept = entries(place(tmp_path / "c"))
    assert [entry.uri for entry in kept] == [str(tmp_path / f"d{index}") for index in (1, 2, 0)]
    assert reserve(
        place(tmp_path / "c", sum(entry.bytes for entry in kept)), tmp_path / "none", kept[0].bytes, nothing
    )
    assert [entry.uri for entry in entries(place(tmp_path / "c"))] == [
        str(tmp_path / "d2"),
        str(tmp_path / "d0"),
    ]


def test_what_is_used_is_not_evicted(root, tmp_path):
    resident = opened(root, tmp_path / "c").resident("train", 40)
    (entry,) = entries(place(tmp_path / "c"))
    assert entry.busy
    assert not evict(place(tmp_path / "c"), entry.path)
    assert not reserve(place(tmp_path / "c", entry.bytes), tmp_path / "none", 1, nothing)
    assert room(place(tmp_path / "c", entry.bytes), "") == 0
    assert resident.held is not None
    resident.held.release()
    assert evict(place(tmp_path / "c"), entry.path)
    assert entries(place(tmp_path / "c")) == []


def test_a_file_that_was_cut_is_fetched_again(root, tmp_path):
    before = opened(root, tmp_path / "c").split("train")["wave"].clone()
    (rows,) = (tmp_path / "c").glob("*/train.rows")
    os.truncate(rows, 100)
    assert torch.equal(opened(root, tmp_path / "c").split("train")["wave"], before)


def test_what_a_task_writes_stays_in_its_process(root, tmp_path):
    dataset = opened(root, tmp_path / "c")
    dataset.resident("train", 40).rows[:] = 0
    assert dataset.split("train")["wave"].any()


def test_long_work_is_reported(root, tmp_path):
    lines = []
    opened(root, tmp_path / "c", report=lines.append).split("train")
    assert re.fullmatch(r"train: decoding 0 MB into .*/c", lines[0])
    assert re.fullmatch(r"train: decoded in \d+\.\d s, \d+ MB/s", lines[1])


def test_who_comes_while_an_entry_is_evicted_gets_its_own(root, tmp_path, monkeypatch):
    expected = opened(root, tmp_path / "c").split("train")["sample_id"].clone()
    (entry,) = entries(place(tmp_path / "c"))
    remove = shutil.rmtree
    met = []

    def slowly(path, **options):
        # The entry is neither whole nor gone; another process comes now.
        (Path(path) / "lock").unlink()
        process = SPAWN.Process(target=attaches, args=(root, tmp_path / "c", tmp_path / "ids"))
        process.start()
        process.join(60)
        met.append(process.exitcode)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", slowly)
    assert evict(place(tmp_path / "c"), entry.path)
    assert met == [0]
    assert torch.equal(torch.load(tmp_path / "ids"), expected)
    monkeypatch.undo()
    assert torch.equal(opened(root, tmp_path / "c").split("train")["sample_id"], expected)


def attaches(root, folder, target):
    # Entering takes no lock that evicting holds for longer than a rename; making room would.
    torch.save(opened_without_room(root, folder).split("train")["sample_id"].clone(), target)


def opened_without_room(root, folder):
    caching.reserve = lambda place, entry, need, note: note() or True
    return opened(root, folder)


def test_the_second_place_is_tried_when_the_first_is_full(root, tmp_path):
    size = opened(root, tmp_path / "x").decoded_bytes
    both = (place(tmp_path / "a", size // 2), place(tmp_path / "b"))
    lines = []
    dataset = open_dataset(str(root), NodeCache(both, lines.append))
    dataset.split("val")
    resident = dataset.resident("train", 40)
    assert [entry.busy for entry in entries(both[1])] == [True]
    assert resident.held is not None
    # The next process finds each where it is, and fetches nothing.
    lines.clear()
    again = open_dataset(str(root), NodeCache(both, lines.append))
    again.split("val"), again.split("train")
    assert lines == []


def test_room_is_taken_before_anything_is_fetched(root, tmp_path, monkeypatch):
    dataset = opened(root, tmp_path / "c")
    taken = []
    original = LocalStorage.open

    def noted(self, path):
        taken.append(sum(entry.bytes for entry in entries(place(tmp_path / "c"))))
        return original(self, path)

    monkeypatch.setattr(LocalStorage, "open", noted)
    dataset.split("train")
    rows = dataset.rows("train") * dataset.layout.width
    assert min(taken) >= rows


def test_who_attaches_holds_the_entry_whether_it_fetched_or_not(root, tmp_path):
    for _ in range(2):
        resident = opened(root, tmp_path / "c").resident("train", 40)
        (entry,) = entries(place(tmp_path / "c"))
        assert entry.busy
        resident.held.release()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"dataset_id": 1, "uri": 2}'])
def test_an_entry_that_cannot_be_read_is_counted_and_makes_room(root, tmp_path, text):
    opened(root, tmp_path / "c").split("train")
    (entry,) = entries(place(tmp_path / "c"))
    (entry.path / "entry.json").write_bytes(text)
    (broken,) = entries(place(tmp_path / "c"))
    assert broken.dataset_id == ""
    assert broken.bytes >= entry.bytes - 4096
    assert len(opened(root, tmp_path / "c").split("train")["wave"]) == 40
    assert reserve(place(tmp_path / "c", entry.bytes), tmp_path / "none", entry.bytes, nothing)
    assert entries(place(tmp_path / "c")) == []


def test_what_a_killed_evictor_left_is_counted_and_swept(root, tmp_path):
    opened(root, tmp_path / "c").split("train")
    (entry,) = entries(place(tmp_path / "c"))
    (entry.path / "lock").unlink()
    assert len(entries(place(tmp_path / "c"))) == 1
    entry.path.rename(tmp_path / "c" / ".trash-1")
    assert reserve(place(tmp_path / "c"), tmp_path / "none", 1, nothing)
    assert not (tmp_path / "c" / ".trash-1").exists()


def test_notes_of_another_file_of_that_name_are_not_believed(root, tmp_path):
    before = opened(root, tmp_path / "c").split("train")["wave"].clone()
    (rows,) = (tmp_path / "c").glob("*/train.rows")
    size = rows.stat().st_size
    # The name goes on to a file of zeros while the notes stay.
    other = rows.with_name("other")
    other.write_bytes(bytes(size))
    other.replace(rows)
    assert torch.equal(opened(root, tmp_path / "c").split("train")["wave"], before)


def test_a_failure_of_before_does_not_hide_what_is_there(root, tmp_path):
    dataset = opened(root, tmp_path / "c")
    dataset.split("train")
    (rows,) = (tmp_path / "c").glob("*/train.rows")
    rows.with_name("train.failure").write_text('["x", 1, "unreachable for a moment", "none"]')
    os.utime(rows.with_name("train.failure"), (time.time() + 100, time.time() + 100))
    assert len(opened(root, tmp_path / "c").split("train")["wave"]) == 40
