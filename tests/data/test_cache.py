"""The node's cache, with processes of its own where it is about processes."""

import errno
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from ristune.data import cache as caching
from ristune.data.cache import NodeCache
from ristune.data.config import DataConfig
from ristune.data.dataset import open_dataset
from ristune.data.places import Place, entries, evict, make_room, places, room
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.storage.local import LocalStorage
from tests.data.drawing import Drawing

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def root(tmp_path):
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 40, "val": 9}, 5, 8))
    return tmp_path / "d"


def place(folder, limit=10**9):
    return Place(Path(folder), limit, "data.cache_disk_gb")


def opened(root, folder, limit=10**9, report=lambda line: None):
    return open_dataset(str(root), NodeCache((place(folder, limit),), report))


def reads(monkeypatch):
    """The paths of files that this process opens."""
    found = []
    original = LocalStorage.open
    monkeypatch.setattr(
        LocalStorage, "open", lambda self, path: (found.append(path), original(self, path))[1]
    )
    return found


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


def together(root, folder, log, barrier):
    original = LocalStorage.open

    def noted(self, path):
        with open(log, "a") as file:
            file.write(path + "\n")
        time.sleep(0.05)
        return original(self, path)

    LocalStorage.open = noted
    dataset = opened(root, folder)
    barrier.wait()
    assert len(dataset.split("train")["wave"]) == 40


def test_of_processes_that_come_together_one_fetches(root, tmp_path):
    barrier = SPAWN.Barrier(6)
    arguments = (root, tmp_path / "c", tmp_path / "log", barrier)
    processes = [SPAWN.Process(target=together, args=arguments) for _ in range(6)]
    [process.start() for process in processes]
    [process.join(60) for process in processes]
    assert [process.exitcode for process in processes] == [0] * 6
    assert sorted((tmp_path / "log").read_text().split()) == [
        f"train/0000{index}.parquet" for index in range(5)
    ]


def killed_half_way(root, folder):
    original = caching._Files.finish

    def finish(self, descriptor, index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, descriptor, index)

    caching._Files.finish = finish
    opened(root, folder).split("train")


def test_the_next_process_goes_on_where_a_killed_one_stopped(root, tmp_path, monkeypatch):
    process = SPAWN.Process(target=killed_half_way, args=(root, tmp_path / "c"))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    found = reads(monkeypatch)
    split = opened(root, tmp_path / "c").split("train")
    assert sorted(found) == [f"train/0000{index}.parquet" for index in (2, 3, 4)]
    assert torch.equal(split["wave"], open_dataset(str(root)).split("train")["wave"])


def test_a_fetch_that_fails_leaves_nothing_and_can_be_made_again(root, tmp_path):
    (root / "train/00000.parquet").rename(root / "away")
    dataset = opened(root, tmp_path / "c")
    with pytest.raises(InputError, match="train/00000.parquet"):
        dataset.split("train")
    assert not list((tmp_path / "c").rglob("*.rows"))
    (root / "away").rename(root / "train/00000.parquet")
    assert len(dataset.split("train")["wave"]) == 40


def waits(root, folder, started, queue):
    def report(line):
        if "waiting" in line:
            started.set()

    try:
        opened(root, folder, report=report).split("train")
    except InputError as error:
        queue.put(str(error))


def test_those_that_waited_for_a_failed_fetch_fail_alike(root, tmp_path, monkeypatch):
    (root / "train/00003.parquet").unlink()
    started, queue = SPAWN.Event(), SPAWN.Queue()
    process = SPAWN.Process(target=waits, args=(root, tmp_path / "c", started, queue))
    original = caching._Files.finish

    def finish(self, descriptor, index):
        if index == 0:
            process.start()
            assert started.wait(60)
            # The other one reads nothing: what it raises is what this one met.
            (root / "train/00003.parquet").write_bytes(b"")
        original(self, descriptor, index)

    monkeypatch.setattr(caching._Files, "finish", finish)
    with pytest.raises(InputError) as failed:
        opened(root, tmp_path / "c").split("train")
    assert queue.get(timeout=60) == str(failed.value)
    process.join(60)


def test_a_full_disk_is_a_clear_error_and_takes_no_room(root, tmp_path, monkeypatch):
    def full(descriptor, data, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match="data.cache: got .* GB are needed there for train.*free some space"):
        opened(root, tmp_path / "c").split("train")
    assert not list((tmp_path / "c").rglob("*.rows"))


def test_too_little_room_is_found_before_any_byte_is_fetched(root, tmp_path, monkeypatch):
    found = reads(monkeypatch)
    with pytest.raises(
        InputError, match=r"data.cache: got '.*/c'; 0.000 GB are needed .* data.cache_disk_gb"
    ):
        opened(root, tmp_path / "c", limit=2000).split("train")
    assert found == []


def test_whether_a_dataset_fits_is_known_beforehand(root, tmp_path):
    dataset = opened(root, tmp_path / "c")
    size = dataset.decoded_bytes
    for limit, fits in [(size, True), (size - 1, False)]:
        assert NodeCache((place(tmp_path / "c", limit),), print).fits(dataset.dataset_id, size) == fits
    dataset.split("val")
    assert NodeCache((place(tmp_path / "c", 0),), print).fits(dataset.dataset_id, size)


def test_the_dataset_unused_for_longest_makes_room(tmp_path):
    for index in range(3):
        write_dataset(str(tmp_path / f"d{index}"), Simulated(Drawing(), {"train": 40}, index))
        opened(tmp_path / f"d{index}", tmp_path / "c").split("train")
        time.sleep(0.02)
    opened(tmp_path / "d0", tmp_path / "c").split("train", ["power"])
    kept = entries(place(tmp_path / "c"))
    assert [entry.uri for entry in kept] == [str(tmp_path / f"d{index}") for index in (1, 2, 0)]
    assert make_room(place(tmp_path / "c", sum(entry.bytes for entry in kept)), kept[0].bytes)
    assert [entry.uri for entry in entries(place(tmp_path / "c"))] == [
        str(tmp_path / "d2"),
        str(tmp_path / "d0"),
    ]


def test_what_is_used_is_not_evicted(root, tmp_path):
    resident = opened(root, tmp_path / "c").resident("train", 40)
    (entry,) = entries(place(tmp_path / "c"))
    assert entry.busy
    assert not evict(entry.path)
    assert not make_room(place(tmp_path / "c", entry.bytes), 1)
    assert room(place(tmp_path / "c", entry.bytes)) == 0
    assert resident.held is not None
    resident.held.release()
    assert evict(entry.path)
    assert entries(place(tmp_path / "c")) == []


def test_a_file_that_was_cut_is_fetched_again(root, tmp_path):
    before = opened(root, tmp_path / "c").split("train")["wave"].clone()
    (rows,) = (tmp_path / "c").glob("*/train.rows")
    os.truncate(rows, 100)
    assert torch.equal(opened(root, tmp_path / "c").split("train")["wave"], before)


def test_what_a_task_writes_stays_in_its_process(root, tmp_path):
    dataset = opened(root, tmp_path / "c")
    planes = dataset.resident("train", 40).planes
    planes[0][:] = 0
    assert dataset.split("train")["wave"].any()


def test_long_work_is_reported(root, tmp_path):
    lines = []
    opened(root, tmp_path / "c", report=lines.append).split("train")
    assert re.fullmatch(r"train: decoding 40 samples, 0 MB, into .*/c", lines[0])
    assert re.fullmatch(r"train: decoded in \d+\.\d s, \d+ MB/s", lines[1])


def settings(**changes):
    values = dict(uri="d", train_limit=None, val_limit=None, fraction=1.0, filter={}, mode="auto", window=16)
    more = dict(prefetch=1, gpu_share=0.6, cache=None, cache_memory_share=0.25, cache_disk_gb=200.0)
    return DataConfig(**{**values, **more, **changes})


def test_shared_memory_is_preferred_and_the_disk_comes_second(monkeypatch, tmp_path):
    monkeypatch.delenv("RISTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory, disk = places(settings())
    assert str(memory.path) == f"/dev/shm/ristune-{os.getuid()}"
    assert memory.limit == pytest.approx(
        0.25 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=1e-6
    )
    assert (disk.path, disk.limit) == (tmp_path / "ristune", 200 * 10**9)
    assert places(settings(cache_memory_share=0.0)) == (disk,)
    assert [given.path for given in places(settings(cache=str(tmp_path / "x")))] == [tmp_path / "x"]
    monkeypatch.setenv("RISTUNE_CACHE", str(tmp_path / "y"))
    assert [given.path for given in places(settings())] == [tmp_path / "y"]
