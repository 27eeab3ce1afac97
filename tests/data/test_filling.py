"""Several processes of a node that want the same samples."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from ristune.data import cache as caching
from ristune.data import kept as keeping
from ristune.data.dataset import open_dataset
from ristune.errors import InputError
from ristune.storage.local import LocalStorage
from tests.data.caching import SPAWN, opened, reads, written


@pytest.fixture
def root(tmp_path):
    return written(tmp_path)


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
