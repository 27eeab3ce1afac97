"""Locks that a process holds until it ends, however it ends: the kernel lets go of them."""

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PERIOD = 0.05


class Held(Exception):
    """Another process has the lock; its message says which."""


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
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
            os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())
        yield
