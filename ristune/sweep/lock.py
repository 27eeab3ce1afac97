"""Locks that a process holds until it ends, however it ends: the kernel lets go of them."""

import fcntl
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# The file in the folder that is held, or the folder of the lease's objects in an object store.
LOCK, LEASE = "lock", "lease"
PERIOD = 0.05


class Held(Exception):
    """Another process has the lock; its message says which."""


class Hold(Protocol):
    """What its holder has of a lock or a lease."""

    def check(self) -> None:
        """Ask before anything is done that only the holder may do.

        Raises:
            Lost: another may hold it by now.
        """


class Lost(Exception):
    """A lease could not be renewed in time: another process may hold it."""


class Kernels:
    """A lock of the kernel, which is lost with the process alone."""

    def check(self) -> None:
        """Nothing to ask: a process that runs has it."""


@dataclass(frozen=True)
class Holder:
    """Who has written its name into a lock.

    Attributes:
        process: its id.
        host: its machine.
        alive: whether it holds the lock now; None where that machine alone could tell.
    """

    process: int
    host: str
    alive: bool | None

    def __str__(self) -> str:
        """As errors name it."""
        return f"process {self.process} on {self.host}"


def hold(place: Path | str) -> AbstractContextManager[Hold]:
    """Hold a folder on disk by a lock, or one in an object store by a lease.

    Args:
        place: the folder, a path or a URI.

    Raises:
        Held: when it is entered, if another process has it.
    """
    if "://" not in str(place):
        return locked(Path(place) / LOCK)
    # Who holds a folder on disk does not load what reads stores.
    from ristune.sweep.lease import leased

    return leased(str(place))


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[Hold]:
    """Hold a lock.

    Args:
        path: of its file, which is made and stays.
        patience: seconds to wait for another process to end.

    Raises:
        Held: if another process has it still.
    """
    deadline = time.monotonic() + patience
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise Held(file.read().strip() or "another process") from error
                # The system has no wait for a lock that ends by itself.
                time.sleep(PERIOD)
        # On a full disk it is held all the same, by one without a name.
        with suppress(OSError):
            file.truncate(0)
            os.write(file.fileno(), f"{name()}\n".encode())
        yield Kernels()


def name() -> str:
    """This process, as others are told of it."""
    return f"process {os.getpid()} on {platform.node()}"


def holder(path: Path) -> Holder | None:
    """Who has held a lock last, and whether it still does; the lock is not touched.

    Trying it, even for a moment, would refuse a process that tries it at the same time.

    Args:
        path: of the lock's file.

    Returns:
        None if nobody has held it yet.
    """
    try:
        written = re.fullmatch(r"process (\d+) on (.*)\n", path.read_text())
    except FileNotFoundError:
        return None
    if written is None:
        return None
    process, host = int(written[1]), written[2]
    return Holder(process, host, _holds(process, path) if host == platform.node() else None)


def _holds(process: int, path: Path) -> bool:
    """Whether a process of this machine has locked a file: one that only has the same id has not."""
    wanted = path.stat()
    own = Path(f"/proc/{process}")
    try:
        for descriptor in os.listdir(own / "fd"):
            try:
                same = os.path.samestat((own / "fd" / descriptor).stat(), wanted)
                if same and "FLOCK" in (own / "fdinfo" / descriptor).read_text():
                    return True
            except FileNotFoundError:
                # It was closed meanwhile.
                continue
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        # Another user's: the kernel's own list says less of the file, enough beside the process.
        entry = re.compile(rf"FLOCK +ADVISORY +WRITE {process} \S+:{wanted.st_ino} ")
        return bool(entry.search(Path("/proc/locks").read_text()))
    return False
