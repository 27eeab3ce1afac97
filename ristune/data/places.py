"""Where a node keeps decoded datasets: in shared memory or on its disk, bounded, the unused ones evicted."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ristune.data.config import DataConfig
from ristune.data.locks import Hold, hold, locked

SHARED_MEMORY = Path("/dev/shm")
# Overrides where datasets are kept, for all processes that inherit it.
VARIABLE = "RISTUNE_CACHE"
# Held by whoever looks for room, so that two do not count the same room as theirs.
ROOM = ".room"
# In each entry: held shared by those that use it, exclusively by who evicts it; its mtime is the last use.
LOCK, ABOUT = "lock", "entry.json"
GB = 10**9


@dataclass(frozen=True)
class Place:
    """A folder of entries.

    Attributes:
        path: the folder.
        limit: the most bytes of all entries together.
        setting: the configuration path that bounds it, as errors name it.
    """

    path: Path
    limit: int
    setting: str


@dataclass(frozen=True)
class Entry:
    """One dataset, or part of it, as it is kept.

    Attributes:
        path: its folder.
        dataset_id: the identity of the dataset.
        uri: where it was fetched from.
        bytes: what it takes.
        used: when it was last attached, seconds since 1970.
        busy: whether a process uses it now.
    """

    path: Path
    dataset_id: str
    uri: str
    bytes: int
    used: float
    busy: bool


def places(config: DataConfig) -> tuple[Place, ...]:
    """The places to keep datasets in, the preferred one first."""
    disk_limit = int(config.cache_disk_gb * GB)
    given = config.cache or os.environ.get(VARIABLE)
    if given:
        return (Place(Path(given).expanduser().absolute(), disk_limit, "data.cache_disk_gb"),)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    disk = Place(base / "ristune", disk_limit, "data.cache_disk_gb")
    if not SHARED_MEMORY.is_dir() or config.cache_memory_share == 0:
        return (disk,)
    limit = int(config.cache_memory_share * _memory())
    # The name says whose it is: the folder above it is everybody's.
    memory = Place(SHARED_MEMORY / f"ristune-{os.getuid()}", limit, "data.cache_memory_share")
    return memory, disk


def entries(place: Place) -> list[Entry]:
    """The entries of a place, the one unused for longest first."""
    found = []
    for about in place.path.glob(f"*/{ABOUT}"):
        folder = about.parent
        try:
            stored = json.loads(about.read_text())
            used = (folder / LOCK).stat().st_mtime
            free = hold(folder / LOCK, exclusive=True, wait=False)
        except FileNotFoundError:
            continue  # evicted meanwhile
        if free is not None:
            free.release()
        size = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
        found.append(Entry(folder, stored["dataset_id"], stored["uri"], size, used, free is None))
    return sorted(found, key=lambda entry: entry.used)


def evict(entry: Path) -> bool:
    """Remove an entry that no process uses; whether it is gone."""
    try:
        held = hold(entry / LOCK, exclusive=True, wait=False)
    except FileNotFoundError:
        return True
    if held is None:
        return False
    shutil.rmtree(entry)
    held.release()
    return True


def room(place: Place) -> int:
    """The bytes that an entry could take if all unused ones were evicted."""
    kept = entries(place)
    unused = sum(entry.bytes for entry in kept if not entry.busy)
    busy = sum(entry.bytes for entry in kept if entry.busy)
    return max(0, min(place.limit - busy, _free(place.path) + unused))


def make_room(place: Place, need: int) -> bool:
    """Evict unused entries, the oldest first, until `need` more bytes fit; whether they do."""
    with locked(_made(place.path) / ROOM):
        kept = entries(place)
        taken = sum(entry.bytes for entry in kept)
        for entry in [None, *kept]:
            if entry is not None and not entry.busy and evict(entry.path):
                taken -= entry.bytes
            if taken + need <= place.limit and need <= _free(place.path):
                return True
    return False


def enter(options: Sequence[Place], name: str, dataset_id: str, uri: str, size: int) -> tuple[Place, Hold]:
    """Find or make the entry of a dataset, and use it.

    Args:
        options: where it may be, the preferred place first.
        name: the name of the entry.
        dataset_id: the identity of the dataset.
        uri: where it is fetched from.
        size: the bytes of the whole dataset.

    Returns:
        The place it is in, and the lock that keeps it from being evicted.
    """
    while True:
        there = [place for place in options if (place.path / name / ABOUT).is_file()]
        fitting = [place for place in options if size <= room(place)]
        place = (there or fitting or list(options[-1:]))[0]
        folder = _made(place.path / name)
        try:
            held = hold(folder / LOCK, exclusive=False)
            assert held is not None
            if not (folder / ABOUT).is_file():
                temporary = folder / f"{ABOUT}.{os.getpid()}"
                temporary.write_text(json.dumps({"dataset_id": dataset_id, "uri": uri}))
                temporary.replace(folder / ABOUT)
            now = time.time()
            os.utime(folder / LOCK, (now, now))
        except FileNotFoundError:
            continue  # evicted between two of these lines: make it again
        return place, held


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
