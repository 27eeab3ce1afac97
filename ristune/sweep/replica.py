"""A copy of a journal that lies in an object store, for those who read it while its driver writes."""

import shutil
import tempfile
import weakref
from pathlib import Path

from ristune.errors import InputError
from ristune.sweep.home import Home
from ristune.sweep.journal import FILE
from ristune.sweep.lock import Holder


class Replica:
    """A folder with a sweep's journal, gone when this object is.

    Args:
        home: of the sweep.

    Attributes:
        home: the same.
        directory: the folder.

    Raises:
        InputError: if there is no sweep.
    """

    def __init__(self, home: Home) -> None:
        if not home.segments.there():
            rule, remedy = "it must be the URI of a sweep", "`list` with the URI above it names all"
            raise InputError("DIR", home.uri, rule, remedy)
        self.home = home
        self.directory = Path(tempfile.mkdtemp(prefix="ristune-status-"))
        weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)
        self._path = self.directory / "journal" / FILE
        self._path.parent.mkdir()
        self._path.touch()

    def refresh(self) -> None:
        """Take in what has been written since the last call.

        Raises:
            InputError: if another driver has gone on from before what was read, or the store cannot be read.
        """
        lines, known = self.home.segments.read(), self._path.read_bytes()
        if not lines.startswith(known):
            rule = "its journal must only grow, and another driver has gone on from an earlier line of it"
            raise InputError("sweep", self.home.uri, rule, "ask again")
        with self._path.open("ab") as file:
            file.write(lines[len(known) :])

    def driver(self) -> Holder | None:
        """Who drives it, as far as its lease tells; whether that one is alive nobody can see from here."""
        # What reads leases is not loaded for those who read disks.
        from ristune.sweep.lease import holder

        return holder(self.home.store)
