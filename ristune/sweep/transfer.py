"""Checkpoints between a folder and an object store: whole there, or not there at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ristune.errors import InputError
from ristune.storage.access import Storage
from ristune.training.checkpoint import CONTENTS, STATE


@dataclass(frozen=True)
class Held:
    """A checkpoint with all of its files open: it stays readable when another takes its name.

    Attributes:
        files: by name, the list of contents last.
        which: tells it from others that had or will have the name.
    """

    files: Mapping[str, BinaryIO]
    which: tuple[int, int]

    def state(self) -> dict[str, Any]:
        """Its state."""
        state: dict[str, Any] = json.loads(self.files[STATE].read())
        self.files[STATE].seek(0)
        return state


@contextmanager
def held(folder: Path) -> Iterator[Held | None]:
    """Hold a checkpoint that another may replace or drop meanwhile; None if it is not there."""
    with ExitStack() as stack:
        try:
            checkpoint = _open(folder, stack)
        except (FileNotFoundError, NotADirectoryError):
            checkpoint = None
        yield checkpoint


def put(store: Storage, checkpoint: Held, key: str) -> None:
    """Put a checkpoint under a key that holds none.

    Its list of contents goes last: a key without one holds no checkpoint.

    Raises:
        InputError: if the store does not take it before its deadline.
    """
    for name, file in checkpoint.files.items():
        store.write_atomic(f"{key}/{name}", file.read())


def replace(store: Storage, folder: Path, key: str) -> None:
    """Put a checkpoint in the place of another; in between there is none.

    Raises:
        InputError: as `put`, or if there is none in the folder.
    """
    with held(folder) as checkpoint:
        if checkpoint is None:
            rule = "it must hold a checkpoint"
            raise InputError("checkpoint", str(folder), rule, "see what has removed it")
        store.remove_tree(f"{key}/{CONTENTS}")
        put(store, checkpoint, key)


def download(store: Storage, key: str, folder: Path) -> None:
    """Copy a checkpoint into a folder, which is replaced as a whole.

    Raises:
        InputError: if the store cannot be read, or holds none under the key.
    """
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in (*json.loads(store.read(f"{key}/{CONTENTS}")), CONTENTS):
        (temporary / name).write_bytes(store.read(f"{key}/{name}"))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(temporary, folder)


def whole(store: Storage, key: str) -> list[str]:
    """The names of checkpoints below a key that were put whole, sorted."""
    return [name for name in store.list(key) if CONTENTS in store.list(f"{key}/{name}")]


def _open(folder: Path, stack: ExitStack) -> Held:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, directory)

    def opened(name: str) -> BinaryIO:
        return stack.enter_context(os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory), "rb"))

    contents = opened(CONTENTS)
    files = {name: opened(name) for name in json.loads(contents.read())}
    contents.seek(0)
    found = os.fstat(contents.fileno())
    return Held({**files, CONTENTS: contents}, (found.st_ino, found.st_mtime_ns))
