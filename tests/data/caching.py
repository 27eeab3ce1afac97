"""A node's cache over a small dataset, as several tests open it."""

import multiprocessing
from pathlib import Path

from ristune.data.cache import NodeCache
from ristune.data.dataset import open_dataset
from ristune.data.places import Place
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.storage.local import LocalStorage
from tests.data.drawing import Drawing

SPAWN = multiprocessing.get_context("spawn")


def written(folder):
    """A dataset of several shards; its folder."""
    write_dataset(str(folder / "d"), Simulated(Drawing(), {"train": 40, "val": 9}, 5, 8))
    return folder / "d"


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


def nothing():
    """No room to take: the test is of what goes."""
