"""The records of one trial: from where its last checkpoint is, share of the data after share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ristune.config import Config
from ristune.errors import InputError
from ristune.overrides import value_at
from ristune.sweep.shares import FRACTION, share_values, shares
from ristune.training import resume
from ristune.training.checkpoint import Checkpoint
from ristune.training.record import NOTHING_BEFORE, Before, Record, Status
from ristune.trial import Trial

Build = Callable[[Config, Callable[[str], None]], Trial]


def begin(
    config: Config,
    values: Mapping[str, Any],
    folder: Path,
    build: Build,
    clean: Callable[[], None],
    report: Callable[[str], None],
    stopping: Callable[[], bool],
) -> Iterator[Record]:
    """Build a trial, or take it up where its checkpoint is; its first epoch is trained with the first record.

    Args:
        config: of the trial.
        values: by path, searched; a checkpoint that has others is not this trial's.
        folder: of the trial.
        build: makes a trial of a configuration.
        clean: makes the process what it was before the trial; called between two shares.
        report: told of long work, and of where it goes on, in a line each.
        stopping: asked between two windows; if so the state is kept and there is no further record.

    Raises:
        InputError: as `prepare` in `ristune.trial`.
    """
    saved = _newest(config, values, folder, report)
    number, before = 0, NOTHING_BEFORE
    if saved is not None and config.sweep.resource == "data":
        number = shares(config.sweep).index(value_at(saved.state["config"], FRACTION))
        before = Before(**saved.state["before"])
    trial = build(_of_share(config, number), report)
    if saved is not None:
        resume.restore(saved, trial.trainer)
        report(f"goes on in epoch {before.epochs + trial.trainer.progress.epoch}")
    return _train(trial, number, before, config, folder, build, clean, report, stopping)


def _train(
    trial: Trial | None,
    number: int,
    before: Before,
    config: Config,
    folder: Path,
    build: Build,
    clean: Callable[[], None],
    report: Callable[[str], None],
    stopping: Callable[[], bool],
) -> Iterator[Record]:
    """The records of a share's trial, then those of the shares after it."""
    final = len(shares(config.sweep)) - 1
    while trial is not None:
        last: Record | None = None
        for last in trial.run(folder, resumable=True, stopping=stopping, before=before):
            goes_on = number < final and last.status is Status.COMPLETE
            yield replace(last, status=Status.RUNNING) if goes_on else last
        # Nobody else holds it: its memory is free before the next share's trial is built.
        trial = None
        if last is None or number == final or last.status is not Status.COMPLETE:
            return
        number, before = number + 1, Before(last.epoch, last.objective, last.best_epoch)
        clean()
        trial = build(_of_share(config, number), report)


def _of_share(config: Config, number: int) -> Config:
    values = share_values(config.sweep, number)
    return config.with_values(values) if values else config


def _newest(
    config: Config, values: Mapping[str, Any], folder: Path, report: Callable[[str], None]
) -> Checkpoint | None:
    """The state of a trial that was lost, with its worker or its driver; None if there is none."""
    if not (folder / resume.FOLDER).is_dir():
        return None
    try:
        saved = resume.newest(folder, report)
    except InputError as error:
        # Killed before its first checkpoint was whole: there is nothing to lose.
        report(f"begun anew: {error}")
        return None
    # A journal that lost its end in a power cut gives the number to another trial.
    if any(value_at(saved.state["config"], path) != value for path, value in values.items()):
        resume.drop(folder)
        report("begun anew: the checkpoint is of other values")
        return None
    return saved
