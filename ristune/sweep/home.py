"""A sweep whose home is an object store: what its driver keeps there, and what comes back from it.

The driver works in a folder of its own machine, which is a copy: the journal in the store is the truth. Under
the sweep's place lie `journal/`, `lease/` (who drives it), `trials/ID/` (a trial's states to resume from, its
best epochs, its other files) and, in the end, the results as a folder on disk would have them.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from ristune.errors import InputError
from ristune.storage.access import Storage, open_storage
from ristune.storage.location import SETTINGS, parse_location, redact, within
from ristune.sweep import transfer
from ristune.sweep.segments import Segments
from ristune.training import resume

BEST, TRIALS = "best", "trials"


class Home:
    """The place of one sweep in an object store.

    Args:
        uri: of the sweep, `s3://bucket/runs/NAME`.

    Attributes:
        uri: the same.
        store: what lies there.

    Raises:
        InputError: if it is no such URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.store: Storage = open_storage(uri, "output")
        # What is not waited for; one after the other, so that none overtakes another.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="home")
        self._lock = threading.Lock()
        self._last: Future[None] | None = None
        self._errors: list[str] = []

    @classmethod
    def below(cls, output: str, name: str) -> "Home":
        """That of a sweep.

        Args:
            output: where sweeps lie.
            name: of the sweep.

        Raises:
            InputError: if that is no place in an object store.
        """
        if output.partition("://")[0] not in SETTINGS:
            rule, remedy = "it is a folder, or s3:// or gs:// with a bucket", "write a plain path"
            raise InputError("output", redact(output), rule, remedy)
        return cls(within(output, name, "output"))

    @property
    def name(self) -> str:
        """Of the sweep."""
        return parse_location(self.uri, "output").prefix.rpartition("/")[2]

    @cached_property
    def segments(self) -> Segments:
        """Its journal."""
        return Segments(self.store)

    def drop(self, trial: str) -> None:
        """Have the states of a trial that has ended removed, some time."""
        self._later(lambda: self.store.remove_tree(f"{TRIALS}/{trial}/{resume.FOLDER}"))

    def put(self, folder: Path, names: Sequence[str]) -> None:
        """Have files copied here, some time; while an earlier copy is under way, this one is left out.

        Args:
            folder: of the driver.
            names: below it; those that are not there are left out.
        """
        if self._last is None or self._last.done():
            self._last = self._later(lambda: self._put(folder, names))

    def finish(self, folder: Path, names: Sequence[str], best: str | None) -> None:
        """Copy what a sweep that has ended leaves; when it returns the store has it.

        Args:
            folder: of the driver.
            names: of files below it.
            best: the folder of the winner's checkpoint below it; None if there is none.

        Raises:
            InputError: if the store does not take it.
        """
        self.wait()
        self._put(folder, names)
        if best is not None:
            transfer.replace(self.store, folder / best, best)

    def fetch_best(self, trial: str, epoch: int, folder: Path) -> bool:
        """Copy the checkpoint of a trial's best epoch into a folder.

        Args:
            trial: its id.
            epoch: its best.
            folder: replaced.

        Returns:
            Whether there is one.
        """
        key = self._best_key(trial, epoch)
        if key is not None:
            transfer.download(self.store, key, folder)
        return key is not None

    def best_of(self, trial: str, epoch: int) -> str | None:
        """The URI of the checkpoint of a trial's best epoch; None if there is none.

        Args:
            trial: its id.
            epoch: its best.
        """
        key = self._best_key(trial, epoch)
        return None if key is None else within(self.uri, key, "output")

    def wait(self) -> None:
        """Wait until what was to be done some time is done."""
        self._pool.submit(lambda: None).result()

    def errors(self) -> list[str]:
        """What went wrong since the last call, and is not worth ending a sweep for."""
        with self._lock:
            errors, self._errors = self._errors, []
        return errors

    def _best_key(self, trial: str, epoch: int) -> str | None:
        key = f"{TRIALS}/{trial}/{BEST}"
        found = [name for name in transfer.whole(self.store, key) if name.startswith(f"{epoch:06d}.")]
        return f"{key}/{found[-1]}" if found else None

    def _later(self, action: Callable[[], None]) -> Future[None]:
        return self._pool.submit(self._tried, action)

    def _tried(self, action: Callable[[], None]) -> None:
        try:
            action()
        except InputError as error:
            with self._lock:
                self._errors.append(str(error))

    def _put(self, folder: Path, names: Sequence[str]) -> None:
        for name in names:
            if (folder / name).is_file():
                self.store.write_atomic(name, (folder / name).read_bytes())


def homes(output: str) -> list[Home]:
    """The sweeps right below a place in an object store, by name.

    Raises:
        InputError: if it cannot be read.
    """
    names = open_storage(output, "DIR").list("")
    found = (Home.below(output, name) for name in names)
    return [home for home in found if home.segments.there()]
