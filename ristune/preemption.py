"""The notice that this machine is about to be taken away: where it lies, who gives it, who asks for it."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

# Names the notice's file; Ray must be started with it, for its workers look only where it is set.
VARIABLE = "RISTUNE_NOTICE"


class Preempted(Exception):
    """The machine is about to be taken away: the trial's state is kept, and it goes on on another one."""


def place() -> Path:
    """Where the notice of this machine lies: as the environment says, or in the temporary folder."""
    return Path(os.environ.get(VARIABLE) or Path(tempfile.gettempdir(), "ristune-notice"))


def give(path: Path, reason: str) -> None:
    """Give the notice; who finds it finds it whole.

    Args:
        path: of the notice.
        reason: in a line.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(f"{reason}\n")
    os.replace(new, path)


def withdraw(path: Path) -> None:
    """Take the notice away: it was of an earlier Ray on this machine."""
    path.unlink(missing_ok=True)


class Notice:
    """Whether there is a notice for this process; one that it has seen holds for the life of the process.

    Attributes:
        reason: of the notice; empty while there is none.
    """

    def __init__(self) -> None:
        self._path = os.environ.get(VARIABLE)
        self.reason = ""

    def __call__(self) -> bool:
        """Look; it costs a look at one file's entry, and nothing where Ray was started without."""
        if self._path and not self.reason and os.path.exists(self._path):
            with suppress(FileNotFoundError):
                text = Path(self._path).read_text()
                # The last line of a traceback is all that the driver reads of it.
                self.reason = " ".join(text.split()) or "a notice without a reason"
        return bool(self.reason)
