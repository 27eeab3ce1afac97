"""The node's cache, with processes of its own where it is about processes."""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from ristune.data import cache as caching
from ristune.data import kept as keeping
from ristune.data import places as module
from ristune.data.cache import NodeCache
from ristune.data.config import DataConfig
from ristune.data.dataset import open_dataset
from ristune.data.entries import entries, evict, reserve, room
from ristune.data.places import Place, places
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


def nothing():
    """No room to take: the test is of what goes."""


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
    original = keeping.Kept.finish

    def finish(self, descriptor, index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, descriptor, index)

    keeping.Kept.finish = finish
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
    original = keeping.Kept.finish

    def finish(self, descriptor, index):
        if index == 0:
            process.start()
            assert started.wait(60)
            # The other one reads nothing: what it raises is what this one met.
            (root / "train/00003.parquet").write_bytes(b"")
        original(self, descriptor, index)

    monkeypatch.setattr(keeping.Kept, "finish", finish)
    with pytest.raises(InputError) as failed:
        opened(root, tmp_path / "c").split("train")
    assert queue.get(timeout=60) == str(failed.value)
    process.join(60)


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


def settings(**changes):
    values = dict(uri="d", train_limit=None, val_limit=None, fraction=1.0, filter={}, mode="auto", window=16)
    more = dict(prefetch=1, gpu_share=0.6, cache=None, cache_memory_share=0.25, cache_disk_gb=200.0)
    return DataConfig(**{**values, **more, **changes})


def test_shared_memory_is_preferred_and_the_disk_comes_second(monkeypatch, tmp_path):
    monkeypatch.delenv("RISTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory, disk = places(settings(), print)
    assert str(memory.path) == f"/dev/shm/ristune-{os.getuid()}"
    assert memory.limit == pytest.approx(
        0.25 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=1e-6
    )
    assert (disk.path, disk.limit) == (tmp_path / "ristune", 200 * 10**9)
    assert places(settings(cache_memory_share=0.0), print) == (disk,)
    assert [given.path for given in places(settings(cache=str(tmp_path / "x")), print)] == [tmp_path / "x"]
    monkeypatch.setenv("RISTUNE_CACHE", str(tmp_path / "y"))
    assert [given.path for given in places(settings(), print)] == [tmp_path / "y"]


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


def stopped_half_way(root, folder):
    original = keeping.Kept.finish

    def finish(self, descriptor, index):
        original(self, descriptor, index)
        os.kill(os.getpid(), signal.SIGSTOP)

    keeping.Kept.finish = finish
    opened(root, folder).split("train")


def test_a_filler_that_does_nothing_is_named_and_given_up(root, tmp_path, monkeypatch):
    process = SPAWN.Process(target=stopped_half_way, args=(root, tmp_path / "c"))
    process.start()
    stat = Path(f"/proc/{process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.05)
    monkeypatch.setattr(caching, "SILENT_S", 0.5)
    lines = []
    with pytest.raises(InputError, match=f"process {process.pid} fetches train and has written nothing for"):
        opened(root, tmp_path / "c", report=lines.append).split("train")
    assert f"train: waiting for process {process.pid} of this node, which fetches it" in lines
    process.kill()
    process.join(30)
    assert len(opened(root, tmp_path / "c").split("train")["wave"]) == 40


def test_folders_that_cannot_be_used_are_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at" / "all" / "\udc80")
    for given, rule in [
        (str(tmp_path / "file"), "it must be a folder that can be written"),
        (str(tmp_path / "file/below"), "it must be a folder that can be written"),
        (str(tmp_path / ("x" * 300)), "it must be a folder that can be written"),
        (str(tmp_path / "nul\0byte"), "it must be the path of a folder"),
    ]:
        with pytest.raises(InputError, match=f"data.cache: got .*{rule}"):
            places(settings(cache=given), print)
    monkeypatch.setenv("RISTUNE_CACHE", "relative")
    with pytest.raises(InputError, match="RISTUNE_CACHE: got 'relative'; it must be an absolute path"):
        places(settings(), print)
    monkeypatch.setenv("RISTUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="RISTUNE_CACHE: got"):
        places(settings(), print)
    with pytest.raises(InputError, match="data.cache_disk_gb: got inf; it must be 0 or more, and finite"):
        settings(cache_disk_gb=float("inf"))


def test_shared_memory_that_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.delenv("RISTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "disk"))
    monkeypatch.setattr("ristune.data.places.SHARED_MEMORY", tmp_path)
    folder = tmp_path / f"ristune-{os.getuid()}"
    folder.mkdir(mode=0o700)
    assert places(settings(), print)[0].path == folder
    folder.chmod(0o777)
    lines = []
    assert [found.path for found in places(settings(), lines.append)] == [tmp_path / "disk" / "ristune"]
    assert "shared memory is not used: " in lines[0]


def test_a_user_without_a_home_has_a_place_all_the_same(tmp_path, monkeypatch):
    for name in ("RISTUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (found,) = places(settings(cache_memory_share=0.0), print)
    assert found.path == tmp_path / f"ristune-{os.getuid()}"


def test_memory_is_what_the_container_may_use(tmp_path, monkeypatch):
    (tmp_path / "limit").write_text("1000000\n")
    monkeypatch.setattr(module, "CONTAINER_LIMITS", (str(tmp_path / "none"), str(tmp_path / "limit")))
    assert module._memory() == 1000000
    (tmp_path / "limit").write_text("max\n")
    assert module._memory() > 2**30
