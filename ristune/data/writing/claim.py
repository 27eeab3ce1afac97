"""Whose a directory is while a dataset is written to it: one writer's, and no other's."""

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ristune.data.document import canonical_json, parse_json
from ristune.data.locks import hold
from ristune.data.manifest import MANIFEST, UNFINISHED
from ristune.errors import InputError
from ristune.storage.access import Storage
from ristune.storage.local import WRITER_LOCK

# What a filesystem that knows no locks says; there tokens alone keep writers apart, as in object stores.
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def sole_writer(storage: Storage) -> Iterator[None]:
    """Keep every other process from writing to a local directory; an object store has no locks.

    Args:
        storage: where to write; a local directory must be there.

    Raises:
        InputError: another process writes there, or the lock cannot be made.
    """
    if storage.directory is None:
        yield
        return
    path = storage.directory / WRITER_LOCK
    try:
        held = hold(path, exclusive=True, wait=False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            rule = "a lock that can be written is required"
            raise InputError(
                str(path), error.strerror, rule, "correct its permissions or remove it"
            ) from error
        path.unlink(missing_ok=True)
        yield
        return
    if held is None:
        rule = "another process is writing here, and a dataset has one writer"
        raise InputError("uri", storage.uri, rule, "wait until it has ended, or choose another directory")
    try:
        yield
    finally:
        # While it is held: who takes it from now on makes a file of its own.
        path.unlink(missing_ok=True)
        held.release()


def take(storage: Storage, plan: Any) -> str:
    """Mark a place as that of a new writer.

    Args:
        storage: the place.
        plan: what is to be written, as a JSON value.

    Returns:
        The writer's token, for `check_ours`.
    """
    token = secrets.token_hex(16)
    storage.write_atomic(UNFINISHED, canonical_json({"plan": plan, "token": token}))
    return token


def marked_plan(storage: Storage) -> Any:
    """The plan of whoever marked a place that holds `UNFINISHED`, as a JSON value.

    Raises:
        InputError: the file is none of ours, so that what lies beside it may be somebody else's.
    """
    return _mark(storage)[0]


def check_ours(storage: Storage, token: str) -> None:
    """Stop a writer whose place another one has taken, or which has been finished.

    Args:
        storage: the place.
        token: what `take` returned to this writer.

    Raises:
        InputError: the place is not marked with this token.
    """
    finished = storage.exists(MANIFEST)
    if not finished and not storage.exists(UNFINISHED):
        rule = "the dataset that is being written must be seen by every process and machine that writes to it"
        raise InputError("uri", storage.uri, rule, "choose a folder that all of them share")
    if finished or _mark(storage)[1] != token:
        rule = "another process writes here, so this one stops; what it has finished may be gone"
        raise InputError("uri", storage.uri, rule, "let one process write to a directory at a time")


def _mark(storage: Storage) -> tuple[Any, str]:
    try:
        plan, token = parse_json(storage.read(UNFINISHED), UNFINISHED).fields("plan", "token")
        plan.members()
        return plan.value, token.text()
    except InputError as error:
        rule = f"the file {UNFINISHED!r} there is not what a writer of datasets leaves ({error.rule})"
        remedy = "choose another directory, or delete this one first"
        raise InputError("uri", storage.uri, rule, remedy) from error
