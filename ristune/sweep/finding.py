"""Which sweeps there are, and which one a user means."""

import difflib
import shlex
from pathlib import Path

from ristune.errors import InputError, some
from ristune.sweep.journal import FILE

# Where sweeps lie unless `output` says otherwise; a name without a slash is looked for there.
RUNS = Path("runs")
SHOWN_NAMES = 3


def is_remote(place: str) -> bool:
    """Whether a place is a URI of an object store."""
    return "://" in place


def find(text: str | None) -> Path:
    """The folder of the sweep that a word of the command line means.

    Args:
        text: a folder, or the name of one in `runs/`; None if nothing was given.

    Raises:
        InputError: if there is no such sweep, with the names that come near.
    """
    if text is None:
        raise InputError("DIR", text, "which sweep is meant must be said", _remedy(sweeps(RUNS), RUNS))
    directory = Path(text)
    places = [directory] if "/" in text or text in (".", "..") else [directory, RUNS / text]
    for place in places:
        if is_sweep(place):
            return place
    there = next((place for place in places if place.exists()), None)
    rule = "it must be the folder of a sweep"
    if there is not None:
        rule += f", and {there} has no {Path('journal') / FILE}"
    folder = places[-1].parent
    raise InputError("DIR", text, rule, _remedy(_near(places[-1].name, sweeps(folder)), folder))


def is_sweep(directory: Path) -> bool:
    """Whether a folder is a sweep's: trainings lie beside them."""
    return (directory / "journal" / FILE).is_file()


def sweeps(folder: Path) -> list[Path]:
    """The sweeps right below a folder, by name; none if it is not there."""
    return sorted(path for path in folder.iterdir() if is_sweep(path)) if folder.is_dir() else []


def _near(name: str, known: list[Path]) -> list[Path]:
    near = difflib.get_close_matches(name, [path.name for path in known], n=SHOWN_NAMES)
    near += [path.name for path in known if path.name.startswith(name) and path.name not in near]
    return [path for path in known if path.name in near]


def _remedy(near: list[Path], folder: Path) -> str:
    command = "python -m ristune.sweep list" + ("" if folder == RUNS else f" {shlex.quote(str(folder))}")
    meant = f"did you mean {some([str(path) for path in near], SHOWN_NAMES)}? " if near else ""
    return f"{meant}`{command}` names all"
