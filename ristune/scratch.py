"""A temporary folder for the time of some work, and the end of what killed processes have left in theirs."""

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A socket's path ends at 107 characters, and Ray appends about 62.
LONGEST_TEMPORARY = 40
# Of the folders, and of the file in each that its owner has locked.
PREFIX, ALIVE = "ristune-", "alive"
# Looks for processes to end, and seconds between two.
PASSES, PERIOD = 50, 0.05


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for Ray's session and other temporary files, gone afterwards."""
    place = tempfile.gettempdir()
    short = place if len(place) + len("/ristune-12345678/ray") <= LONGEST_TEMPORARY else "/tmp"
    _clear_up(Path(short))
    while True:
        with (
            tempfile.TemporaryDirectory(prefix=PREFIX, dir=short, ignore_cleanup_errors=True) as folder,
            (Path(folder) / ALIVE).open("w") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process that clears up may have come between the two.
            if (Path(folder) / ALIVE).exists():
                yield Path(folder)
                return


def _clear_up(place: Path) -> None:
    """Remove what killed processes of this user have left: nobody holds the lock of their folder."""
    for lock in place.glob(f"{PREFIX}*/{ALIVE}"):
        try:
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_orphans(lock.parent)
                shutil.rmtree(lock.parent, ignore_errors=True)
        # One that is in use, another user's, or one that another process is removing.
        except (BlockingIOError, PermissionError, FileNotFoundError):
            continue


def _end_orphans(scratch: Path) -> None:
    """End what is left of a Ray whose driver was killed: some of it outlives it by minutes."""
    # One that is ended may have been starting another, and a kill takes effect a moment later.
    for _ in range(PASSES):
        orphans = _of(scratch)
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not orphans:
            return
        time.sleep(PERIOD)


def _of(scratch: Path) -> list[int]:
    """Processes that were started with the folder as their place for temporary files, or have one open in it.

    Those that set a title, as Ray's do, write over their environment.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Another user's, or one that has just ended.
        with suppress(PermissionError, FileNotFoundError, ProcessLookupError):
            started = f"TMPDIR={scratch}".encode() in (process / "environ").read_bytes().split(b"\0")
            if started or _has_open(process, scratch):
                found.append(int(process.name))
    return [pid for pid in found if pid != os.getpid()]


def _has_open(process: Path, scratch: Path) -> bool:
    for descriptor in (process / "fd").iterdir():
        # One that it has just closed says nothing of the others.
        with suppress(FileNotFoundError):
            file = os.readlink(descriptor)
            # The lock itself is opened by whoever clears up.
            if file.startswith(f"{scratch}/") and file != str(scratch / ALIVE):
                return True
    return False
