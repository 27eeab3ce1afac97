"""Datasets that a place keeps: one folder each, in use or to be evicted."""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ristune.data.locks import Hold, hold, locked
from ristune.data.places import Place
from ristune.errors import InputError

# Held by whoever counts or makes room: two would take each other's look at a lock for a user of it.
ROOM = ".room"
TRASH = ".trash-"
# In each entry: held shared by those that use it, exclusively by who evicts it; its mtime is the last use.
LOCK, ABOUT = "lock", "entry.json"
# Endings of the files of decoded rows, and of what says how many bytes the rows beside it are going to take.
ROWS, RESERVED = ".rows", ".reserved"


@dataclass(frozen=True)
class Entry:
    """One dataset, or part of it, as it is kept.

    Attributes:
        path: its folder.
        dataset_id: the identity of the dataset; empty where that cannot be read any more.
        uri: where it was fetched from.
        bytes: what it takes, or is going to take.
        coming: of these, what is not taken from the file system yet.
        used: when it was last attached, seconds since 1970.
        busy: whether a process uses it now.
    """

    path: Path
    dataset_id: str
    uri: str
    bytes: int
    coming: int
    used: float
    busy: bool


def entries(place: Place) -> list[Entry]:
    """The entries of a place, the one unused for longest first."""
    if not place.path.is_dir():
        return []
    with locked(place.path / ROOM):
        return _entries(place)


def evict(place: Place, entry: Path) -> bool:
    """Remove an entry that no process uses; whether it is gone."""
    with locked(place.path / ROOM):
        return _evict(entry)


def room(place: Place, kept: str) -> int:
    """The bytes that could be added if all unused entries were evicted.

    Args:
        place: the place.
        kept: the name of an entry that is not to be evicted for it.
    """
    found = entries(place)
    spared = sum(entry.bytes for entry in found if entry.busy or entry.path.name == kept)
    evictable = sum(entry.bytes for entry in found) - spared
    coming = sum(entry.coming for entry in found)
    return max(0, min(place.limit - spared, _free(place.path) - coming + evictable))


def size_there(place: Place, name: str) -> int:
    """The bytes of the rows in an entry; 0 if it is not there."""
    return sum(rows.stat().st_blocks * 512 for rows in (place.path / name).glob(f"*{ROWS}"))


def reserve(place: Place, entry: Path, need: int, note: Callable[[], None]) -> bool:
    """Evict unused entries, the oldest first, until `need` more bytes fit, and reserve them.

    Args:
        place: the place.
        entry: the folder of the entry that needs them.
        need: bytes, beside those that the entry takes.
        note: writes the reservation; called while nobody else counts.

    Returns:
        Whether they fit; if not, `note` was not called.
    """
    with locked(place.path / ROOM):
        for trash in place.path.glob(f"{TRASH}*"):
            shutil.rmtree(trash, ignore_errors=True)
        found = _entries(place)
        others = {other.path: other for other in found}
        # What a filler that was ended had reserved is this one's to reserve.
        own = others.pop(entry, None)
        mine = own.bytes - own.coming if own else 0
        for other in [None, *list(others.values())]:
            if other is not None and not other.busy and _evict(other.path):
                del others[other.path]
            taken = sum(each.bytes for each in others.values()) + mine
            coming = sum(each.coming for each in others.values())
            if taken + need <= place.limit and need <= _free(place.path) - coming:
                note()
                return True
    return False


def enter(place: Place, name: str, dataset_id: str, uri: str) -> Hold:
    """Use the entry of a dataset, which is made if it is not there.

    Args:
        place: where.
        name: the name of the entry.
        dataset_id: the identity of the dataset.
        uri: where it is fetched from.

    Returns:
        The lock that keeps it from being evicted.

    Raises:
        InputError: it belongs to another user.
    """
    folder = place.path / name
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = hold(folder / LOCK, exclusive=False)
        except FileNotFoundError:
            continue  # evicted between these two lines: make it again
        except PermissionError as error:
            rule = "the dataset is kept there by another user"
            remedy = "give a folder of your own as data.cache"
            raise InputError("data.cache", str(folder), rule, remedy) from error
        assert held is not None
        if not (folder / ABOUT).is_file():
            write_whole(folder / ABOUT, json.dumps({"dataset_id": dataset_id, "uri": uri}))
        now = time.time()
        os.utime(folder / LOCK, (now, now))
        return held


def write_whole(path: Path, text: str) -> None:
    """Write a small file that others read: they see all of it or nothing, also after a power cut."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _entries(place: Place) -> list[Entry]:
    found = []
    for folder in place.path.iterdir():
        # An entry may be given up by its own filler meanwhile; what is gone takes no room.
        with suppress(FileNotFoundError):
            if folder.is_dir() and not folder.name.startswith("."):
                found.append(_look(folder))
    return sorted(found, key=lambda entry: entry.used)


def _look(folder: Path) -> Entry:
    free = hold(folder / LOCK, exclusive=True, wait=False)
    if free is not None:
        free.release()
    said = {"dataset_id": "", "uri": "unknown"}
    try:
        stored = json.loads((folder / ABOUT).read_bytes())
        if isinstance(stored, dict) and all(isinstance(stored.get(key), str) for key in said):
            said = stored
    except (FileNotFoundError, ValueError):
        pass  # half of it was removed, or a power cut left half: it is counted, and may be evicted
    sizes = {file.name: file.stat().st_blocks * 512 for file in folder.iterdir()}
    size = coming = sum(sizes.values())
    for name in sizes:
        if name.endswith(RESERVED):
            wanted, rows = (folder / name).read_text(), name.removesuffix(RESERVED) + ROWS
            size += max(0, (int(wanted) if wanted.isdigit() else 0) - sizes.get(rows, 0))
    coming = size - coming
    used = (folder / LOCK).stat().st_mtime
    return Entry(folder, said["dataset_id"], said["uri"], size, coming, used, free is None)


def _evict(entry: Path) -> bool:
    try:
        held = hold(entry / LOCK, exclusive=True, wait=False)
    except FileNotFoundError:
        return True
    if held is None:
        return False
    # Out of the way at once: who comes meanwhile makes an entry anew, and does not find half of this one.
    trash = entry.with_name(f"{TRASH}{uuid4().hex}")
    entry.rename(trash)
    held.release()
    shutil.rmtree(trash, ignore_errors=True)
    return True


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
