"""Locks between the processes of a node: the system lets go of them when a process ends, however it ends."""

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Hold:
    """A lock that is held until `release`, or until nothing refers to it any more."""

    def __init__(self, descriptor: int, exclusive: bool) -> None:
        # A child that was forked meanwhile has the descriptor too: an exclusive lock must not live on in it.
        self._close = weakref.finalize(self, _unlock if exclusive else os.close, descriptor)

    def release(self) -> None:
        """Let go; a second call does nothing."""
        self._close()


def hold(path: Path, exclusive: bool, wait: bool = True) -> Hold | None:
    """Lock a file, which is made if need be; its folder must be there.

    Args:
        path: the file; what is in it does not matter.
        exclusive: whether nobody else may hold it, or only nobody exclusively.
        wait: whether to wait for those that hold it.

    Returns:
        The lock, or None if `wait` is false and somebody holds it.

    Raises:
        FileNotFoundError: the folder is not there.
    """
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
            # Who held it may have removed it: a lock on a file without a name keeps nobody out.
            if _same(path, descriptor):
                return Hold(descriptor, exclusive)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file exclusively for the length of a block; see `hold`."""
    held = hold(path, exclusive=True)
    assert held is not None
    try:
        yield
    finally:
        held.release()


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
