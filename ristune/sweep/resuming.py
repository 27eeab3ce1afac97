"""A sweep that goes on: after Ctrl-C, after its driver was killed, or because there are to be more trials."""

from dataclasses import replace
from pathlib import Path

from ristune.config import Config, restore
from ristune.errors import InputError
from ristune.overrides import RESUMABLE, check_resumable
from ristune.sweep.finding import RUNS, is_remote
from ristune.sweep.history import History
from ristune.sweep.home import Home
from ristune.sweep.journal import FILE, Journal, started

# Beside where trials run: how many at once, on how much of the machine, and how failures are met.
_OF_THE_SWEEP = tuple(
    f"sweep.{name}="
    for name in ("concurrency", "cpus_per_trial", "gpu_per_trial", "max_retries", "max_failed_share")
)


def locate(place: str) -> tuple[Path, Home | None]:
    """The folder of a sweep on this machine, and its home if that is an object store.

    Args:
        place: the folder, also one that is only a copy, or the URI.

    Raises:
        InputError: if there is no sweep.
    """
    rule = "it must be the folder of a sweep, or its URI"
    if is_remote(place):
        home = Home(place)
        if not home.segments.there():
            raise InputError("--resume", place, rule, "see what lies there with `list`")
        return RUNS / home.name, home
    # `.` has no name.
    directory = Path(place) if Path(place).name else Path(place).resolve()
    path = directory / "journal" / FILE
    if not path.is_file():
        raise InputError("--resume", place, rule, "see runs/ for the sweeps there are")
    uri = started(path).get("home")
    return directory, None if uri is None else Home(uri)


def open_sweep(directory: Path, home: Home | None) -> Journal:
    """The journal of a sweep that is to go on; its events cannot be another's until it is closed.

    Args:
        directory: the sweep's folder; a copy where it has a home, made if it is not there.
        home: of the sweep.

    Raises:
        InputError: if the journal is damaged, the sweep is running, or the folder is another's.
    """
    path = directory / "journal" / FILE
    if home is not None and directory.exists() and started(path).get("home") != home.uri:
        rule = f"it must be a copy of {home.uri}, or not be there"
        raise InputError("--resume", str(directory), rule, "move it, or work in another folder")
    journal = Journal(path, None if home is None else home.segments)
    if not journal.history.started:
        journal.close()
        rule, remedy = "it must be a sweep that has started", "remove it, and start it anew"
        raise InputError("--resume", str(directory), rule, remedy)
    if journal.history.scripted:
        journal.close()
        remedy = f"run the script again: {journal.history.started['command']}"
        raise InputError("--resume", str(directory), "it is the study of a Tune script", remedy)
    return journal


def restored(history: History, overrides: list[str]) -> Config:
    """The configuration of a sweep, whatever the YAML files say today, with what may be another way now.

    Args:
        history: of the sweep.
        overrides: of this command line.

    Raises:
        InputError: if an override would make another sweep of it.
    """
    check_resumable(overrides, "sweep", (*RESUMABLE, *_OF_THE_SWEEP))
    started = history.started
    config = restore(started["source"], overrides, started["config_dirs"])
    return replace(config, overrides=(*started["overrides"], *config.overrides))


def trials_in_total(history: History, asked_for: int | None) -> int:
    """How many trials the sweep is to have in the end.

    Args:
        history: of the sweep.
        asked_for: on the command line, if at all.

    Raises:
        InputError: if there is nothing left to run.
    """
    there = len(history.trials)
    total = max(there, history.started["requested"]) if asked_for is None else asked_for
    if total < there:
        rule = f"this sweep has {there} trials already, and none is taken away"
        raise InputError("--trials", total, rule, f"give {there} or more")
    ended = history.told
    # A driver that was killed at the very end has yet to write its results, and one whose Ray broke then too.
    if history.ended.get("outcome") == "finished" and ended == total:
        rule = f"all {ended} trials of this sweep have ended"
        raise InputError("--trials", total, rule, "give a larger number to extend it")
    return total


def check_dataset(history: History, dataset_id: str, uri: str) -> None:
    """Refuse another dataset than the trials so far were trained on.

    Raises:
        InputError: naming both.
    """
    wanted = history.started["dataset_id"]
    if dataset_id != wanted:
        rule = f"it must be the dataset of the sweep, id {wanted[:12]}, and has the id {dataset_id[:12]}"
        raise InputError("data.uri", uri, rule, "give that dataset, or start a new sweep")
