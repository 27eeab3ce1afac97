"""Where a node may keep decoded datasets, and how much of them."""

import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ristune.data.config import DataConfig
from ristune.errors import InputError

SHARED_MEMORY = Path("/dev/shm")
# Overrides where datasets are kept, for all processes that inherit it.
VARIABLE = "RISTUNE_CACHE"
GB = 10**9
# Where the kernel says what a container may use; the first that is there holds.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


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


def places(config: DataConfig, report: Callable[[str], None]) -> tuple[Place, ...]:
    """The places to keep datasets in, the preferred one first; each is there and can be written.

    Args:
        config: what the user set.
        report: told why shared memory is not used where it could be.

    Raises:
        InputError: the folder that was given cannot be used.
    """
    disk_limit = int(config.cache_disk_gb * GB)
    name, given = ("data.cache", config.cache) if config.cache else (VARIABLE, os.environ.get(VARIABLE, ""))
    if given:
        path = Path(os.path.expanduser(given))
        if name == VARIABLE and not path.is_absolute():
            rule = "it must be an absolute path: the processes that inherit it have folders of their own"
            raise InputError(name, given, rule, "write the whole path")
        _usable(name, given, path)
        return (Place(path.absolute(), disk_limit, "data.cache_disk_gb"),)
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    # A user without a home, as containers have them.
    folder = base / "ristune" if base.is_absolute() else Path(tempfile.gettempdir()) / _own_name()
    _usable("data.cache", str(folder), folder)
    disk = Place(folder, disk_limit, "data.cache_disk_gb")
    if config.cache_memory_share == 0 or not SHARED_MEMORY.is_dir():
        return (disk,)
    memory = SHARED_MEMORY / _own_name()
    try:
        _usable("data.cache", str(memory), memory)
        _private(memory)
    except InputError as error:
        report(f"shared memory is not used: {error}")
        return (disk,)
    limit = int(config.cache_memory_share * _memory())
    return Place(memory, limit, "data.cache_memory_share"), disk


def _own_name() -> str:
    # The name says whose it is: the folder above it is everybody's.
    return f"ristune-{os.getuid()}"


def _usable(name: str, given: str, path: Path) -> None:
    """Make a folder, and try whether it can be written.

    Raises:
        InputError: that is not possible.
    """
    remedy = "correct its permissions, or give another folder as data.cache"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(
            name, given, f"it must be a folder that can be written ({error.strerror})", remedy
        ) from error
    except ValueError as error:
        raise InputError(name, given, f"it must be the path of a folder ({error})", remedy) from error


def _private(path: Path) -> None:
    """Refuse a folder that others can write to: who can, could hand this user any samples.

    Raises:
        InputError: saying whose it is.
    """
    found = path.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        rule = f"it must be a folder of user {os.getuid()} that nobody else may write to"
        raise InputError("data.cache", str(path), rule, "remove it, or give another folder as data.cache")


def _memory() -> int:
    """The bytes of RAM that this process may use: the machine's, or its container's."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in map(Path, CONTAINER_LIMITS):
        if limit.is_file():
            text = limit.read_text().strip()
            return min(found, int(text)) if text.isdigit() else found
    return found
