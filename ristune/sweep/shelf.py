"""What a trial keeps in an object store while it trains, copied there by a thread: training does not wait.

States to resume from and best epochs go up as they appear in the trial's folder, the rest of it when the
trial ends. Every attempt at a trial has names of its own, so that a worker that was thought lost neither
replaces nor drops what the worker after it keeps.
"""

import hashlib
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from ristune.errors import InputError
from ristune.storage.access import Storage
from ristune.sweep import transfer
from ristune.sweep.home import BEST
from ristune.training import resume

# Seconds between two looks at the folder.
PERIOD = 0.5


def machine_folder(home: str) -> Path:
    """Where a machine keeps what its trials of a sweep have not brought to the store yet.

    Args:
        home: of the sweep.
    """
    of_user = Path(tempfile.gettempdir()) / f"ristune-sweeps-{os.getuid()}"
    return of_user / hashlib.sha256(home.encode()).hexdigest()[:16]


class StoreFailure(OSError):
    """A store took nothing for too long; it may by the next try."""


class Shelf:
    """The shelf of one attempt at a trial; use it as a context manager around the training.

    Args:
        store: the trial's place.
        folder: the trial's folder on this machine.
        lock: name of the file in it that stays here.
        warn: told of what failed.
    """

    def __init__(self, store: Storage, folder: Path, lock: str, warn: Callable[[str], None]) -> None:
        self._store = store
        self._folder = folder
        self._own = lock
        self._warn = warn
        self._attempt = uuid.uuid4().hex[:8]
        # By folder below the trial's: which checkpoint of it was put, and under what key.
        self._put: dict[str, tuple[tuple[int, int], str]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shelf", daemon=True)

    def __enter__(self) -> "Shelf":
        """Begin to copy."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Copy all that the trial has left, and leave nothing of it on this machine."""
        self._stop.set()
        self._thread.join()
        try:
            self.drain()
            self._copy_files()
        except StoreFailure as error:
            self._warn(f"files of the trial stay on this machine, in {self._folder}: {error}")
            return
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != self._own:
                path.unlink()

    def fetch(self, epoch: int) -> None:
        """Bring the state to go on from into the folder, and nothing else of earlier attempts.

        Args:
            epoch: the last that the journal has: what a state knows beyond it would be missing there.

        Raises:
            StoreFailure: if the store cannot be read.
        """
        try:
            for path in (self._folder / resume.FOLDER, self._folder / BEST):
                shutil.rmtree(path, ignore_errors=True)
            # A state's name begins with the epoch that it is in, whose record is still to come.
            names = [
                name for name in transfer.whole(self._store, resume.FOLDER) if int(name[:6]) <= epoch + 1
            ]
            if names:
                state = max(names).partition(".")[0]
                target = self._folder / resume.FOLDER / state
                transfer.download(self._store, f"{resume.FOLDER}/{max(names)}", target)
        except InputError as error:
            raise StoreFailure(str(error)) from error

    def drain(self) -> None:
        """Copy the checkpoints that are not in the store yet; when it returns the store has them.

        Raises:
            StoreFailure: if it does not take them.
        """
        try:
            self._copy()
        except InputError as error:
            raise StoreFailure(str(error)) from error

    def _copy_files(self) -> None:
        """Copy what is no checkpoint: logs, an error, a window that diverged, a tracker's offline run."""
        try:
            for path in sorted(self._folder.rglob("*")):
                name = path.relative_to(self._folder)
                other = name.parts[0] not in (self._own, resume.FOLDER, BEST)
                if other and path.is_file() and not path.is_symlink():
                    self._store.write_atomic(name.as_posix(), path.read_bytes())
        except InputError as error:
            raise StoreFailure(str(error)) from error

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            try:
                self._copy()
            except InputError as error:
                self._warn(f"a checkpoint is not in the store yet: {error}")

    def _copy(self) -> None:
        with self._lock:
            states = self._folder / resume.FOLDER
            names = [path.name for path in states.iterdir()] if states.is_dir() else []
            kept = sorted(f"{resume.FOLDER}/{name}" for name in names if not name.startswith("."))
            for name in (*kept, BEST):
                self._shelve(name)
            self._drop(kept)

    def _shelve(self, name: str) -> None:
        """Put a checkpoint of the folder, unless it is the one that was put last."""
        with transfer.held(self._folder / name) as checkpoint:
            last, before = self._put.get(name, (None, ""))
            if checkpoint is None or checkpoint.which == last:
                return
            key = f"{name}.{self._attempt}"
            if name == BEST:
                key = f"{BEST}/{checkpoint.state()['epoch']:06d}.{self._attempt}"
            transfer.put(self._store, checkpoint, key)
            self._put[name] = (checkpoint.which, key)
        if before and before != key:
            self._store.remove_tree(before)

    def _drop(self, there: list[str]) -> None:
        """Remove the states that the training has dropped, once newer ones are there."""
        for name in [name for name in self._put if name != BEST and name not in there]:
            self._store.remove_tree(self._put[name][1])
            del self._put[name]
