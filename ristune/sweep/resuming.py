"""A sweep that goes on: after Ctrl-C, after its driver was killed, or because there are to be more trials."""

from dataclasses import replace
from pathlib import Path

from ristune.config import Config, restore
from ristune.errors import InputError
from ristune.overrides import RESUMABLE, check_resumable
from ristune.sweep.history import History
from ristune.sweep.journal import FILE, Journal

# Beside where trials run: how many at once, on how much of the machine, and how failures are met.
_OF_THE_SWEEP = tuple(
    f"sweep.{name}="
    for name in ("concurrency", "cpus_per_trial", "gpu_per_trial", "max_retries", "max_failed_share")
)


def open_sweep(directory: Path) -> Journal:
    """The journal of a sweep that is to go on; its events cannot be another's until it is closed.

    Args:
        directory: the sweep's folder.

    Raises:
        InputError: if there is no sweep, its journal is damaged, or it is running.
    """
    path = directory / "journal" / FILE
    rule = "it must be the folder of a sweep"
    if not path.is_file():
        raise InputError("--resume", str(directory), rule, "see runs/ for the sweeps there are")
    journal = Journal(path)
    if not journal.history.started:
        journal.close()
        remedy = "remove the folder, and start it anew"
        raise InputError("--resume", str(directory), f"{rule} that has started", remedy)
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
