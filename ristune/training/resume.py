"""States to resume from: the newest two are kept, so that one that is damaged costs no training."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ristune.errors import InputError
from ristune.training import checkpoint
from ristune.training.checkpoint import Checkpoint
from ristune.training.trainer import Trainer

FOLDER = "resume"
KEPT = 2
TRAINING = "training.safetensors"


def keep(directory: Path, trainer: Trainer, origin: Mapping[str, Any], before: int = 0) -> None:
    """Keep where a training stands, and drop the states before the last two.

    Args:
        directory: of the training.
        trainer: between two windows.
        origin: what the training came from, plain values.
        before: epochs of trainings that came before in the same folder, whose states are older.
    """
    values, tensors = trainer.state()
    name = f"{before + trainer.progress.epoch:06d}-{trainer.progress.done:09d}"
    checkpoint.write(
        directory / FOLDER / name,
        {checkpoint.WEIGHTS: trainer.task.network.state_dict(), TRAINING: tensors},
        {"training": values, **origin},
    )
    for old in _newest_first(directory)[KEPT:]:
        shutil.rmtree(old)


def drop(directory: Path) -> None:
    """Drop all states of a training: it is complete."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def newest(directory: Path, report: Callable[[str], None]) -> Checkpoint:
    """The newest state of a training that is whole.

    Args:
        directory: of the training.
        report: told of a damaged one that is passed over.

    Raises:
        InputError: if there is none.
    """
    for path in _newest_first(directory):
        try:
            return checkpoint.load(path)
        except InputError as error:
            report(f"passed over: {error}")
    raise InputError(
        "--resume",
        str(directory),
        f"it must be the folder of a training with a whole state in {FOLDER}/",
        "start it anew with --out",
    )


def restore(saved: Checkpoint, trainer: Trainer) -> None:
    """Put a trainer where a state says."""
    saved.load_into(trainer.task.network)
    trainer.load(saved.state["training"], saved.tensors(TRAINING))
    # Newer ones were damaged: they must not count as one of those that are kept.
    for path in saved.directory.parent.iterdir():
        if path.name > saved.directory.name:
            shutil.rmtree(path)


def _newest_first(directory: Path) -> list[Path]:
    folder = directory / FOLDER
    if not folder.is_dir():
        return []
    # A save that was cut off left a name with a dot in front.
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), reverse=True)
