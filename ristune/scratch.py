"""A temporary folder for the time of some work, and the end of what killed processes have left in theirs."""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A socket's path ends at 107 characters, and Ray appends about 62.
LONGEST_TEMPORARY = 40
# Of the folders, and of the file in each that its owner has locked.
PREFIX, ALIVE = "ristune-", "alive"


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
    """End the helpers of a Ray whose driver was killed: they outlive it by minutes, and its folder."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            theirs = f"TMPDIR={scratch}\0".encode() in environment.read_bytes()
            if theirs and os.readlink(environment.parent / "exe") == os.readlink("/proc/self/exe"):
                os.kill(int(environment.parent.name), signal.SIGKILL)
        # Another user's, or one that has just ended.
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue
