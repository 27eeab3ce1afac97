"""What a sweep leaves behind, made from its journal alone."""

import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ristune.overrides import literal
from ristune.sweep.history import History, State, TrialHistory
from ristune.sweep.journal import FILE, read, take

if TYPE_CHECKING:
    import pyarrow as pa

SUMMARY, BEST_YAML, BEST, TRIALS, RECORDS = (
    "summary.json",
    "best.yaml",
    "best",
    "trials.parquet",
    "records.parquet",
)
# All of a sweep's files but its checkpoints and its journal.
FILES = (SUMMARY, BEST_YAML, TRIALS, RECORDS, "config.yaml", "sweep.log", "ray.log")
# What a longer training of the best has no use for.
_SWEEP_ONLY = ("sweep", "space")


def load(directory: Path) -> History:
    """The history of a sweep.

    Args:
        directory: the sweep's folder.

    Raises:
        InputError: if its journal is damaged.
    """
    history = History()
    path = directory / "journal" / FILE
    for number, event in enumerate(read(path), start=1):
        take(history, path, number, event)
    return history


def write(directory: Path, history: History) -> None:
    """Write every result of a sweep that has ended; each file is whole at any moment.

    Args:
        directory: the sweep's folder; the winner's checkpoint is copied from `trials/<id>/best` in it.
        history: what the journal says.
    """
    write_tables(directory, history)
    if history.best is not None:
        _copy_folder(directory / "trials" / history.best.id / BEST, directory / BEST)


def write_tables(directory: Path, history: History) -> None:
    """Write the results but the winner's checkpoint, which a running trial may be replacing.

    Args:
        directory: the sweep's folder.
        history: what the journal says so far.
    """
    _table(directory / TRIALS, [_trial_row(trial) for trial in history.trials.values()])
    records = [{"trial": t.id, **record} for t in history.trials.values() for record in t.records]
    _table(directory / RECORDS, records)
    if history.best is not None:
        _text(directory / BEST_YAML, best_yaml(history, history.best))
    _text(directory / SUMMARY, json.dumps(summary(history), indent=2, allow_nan=False) + "\n")


def summary(history: History) -> dict[str, Any]:
    """The sweep in numbers.

    Returns:
        `name`, `trials` (total and by state), `best` (null
        if there is none; its `metrics` are those of its best epoch), `epochs`, `seconds`, `gpu_hours`,
        `versions`, and also `requested`, `outcome`, `failures` (how many trials by cause) and `warnings`.
    """
    trials = list(history.trials.values())
    ends = (State.COMPLETE, State.STOPPED, State.DIVERGED, State.OOM, State.FAILED)
    counts = {str(state): history.count(state) for state in ends}
    best = history.best
    started = history.started
    return {
        "name": started["name"],
        "trials": {
            "total": len(trials),
            **counts,
            "running": history.count(State.WAITING, State.RUNNING),
            "interrupted": history.count(State.INTERRUPTED),
        },
        "best": best
        and {
            "trial": best.id,
            "objective": best.objective,
            "epoch": best.best_epoch,
            "values": best.values,
            "metrics": best.metrics,
        },
        "epochs": sum(len(trial.records) for trial in trials),
        "seconds": history.seconds,
        "gpu_hours": sum(trial.held for trial in trials) * started["resources"]["gpu"] / 3600,
        "versions": started["versions"],
        "requested": started["requested"],
        "outcome": history.ended.get("outcome", "running"),
        "failures": causes(history),
        "warnings": history.warnings,
    }


def causes(history: History) -> dict[str, int]:
    """How many trials ended badly, by cause, the most frequent first."""
    bad = (State.FAILED, State.DIVERGED, State.OOM)
    ended = (f"{trial.state}: {trial.reason}" for trial in history.trials.values() if trial.state in bad)
    return dict(Counter(ended).most_common())


def best_yaml(history: History, best: TrialHistory, path: Path | None = None) -> str:
    """Config folders and overrides that reproduce a trial, as YAML with the commands in a comment.

    Args:
        history: of the sweep.
        best: the trial.
        path: of the file that it will be in; None for the sweep's own.
    """
    kept = [text for text in history.started["overrides"] if _group(text) not in _SWEEP_ONLY]
    values = [f"{path}={literal(value)}" for path, value in best.values.items()]
    body = {"config_dirs": history.started["config_dirs"], "overrides": [*kept, *values]}
    return (
        f"# Trial {best.id}, objective {best.objective!r} at epoch {best.best_epoch}, found by\n"
        f"#   {history.started['command']}\n"
        f"# Train it for longer:\n"
        f"#   {train_command(history, path)}\n" + yaml.safe_dump(body, sort_keys=False, width=1000)
    )


def train_command(history: History, path: Path | None = None) -> str:
    """The command that trains a trial four times as long.

    Args:
        history: of the sweep.
        path: of the trial's YAML; None for that of the best, which the sweep has written.
    """
    source = shlex.quote(str(path or Path(history.started["directory"]) / BEST_YAML))
    return f"python -m ristune.train --from {source} training.epochs={4 * history.started['training_epochs']}"


def _group(override: str) -> str:
    return override.split("=")[0].split(".")[0].lstrip("+~")


def _trial_row(trial: TrialHistory) -> dict[str, Any]:
    return {
        "trial": trial.id,
        "state": str(trial.state),
        "objective": trial.objective,
        "best_epoch": trial.best_epoch,
        "epochs": trial.epoch,
        "seconds": trial.seconds,
        "asked": trial.asked,
        "started": trial.started,
        "ended": trial.ended,
        "reason": trial.reason,
        **{f"values/{path}": value for path, value in trial.values.items()},
    }


def _table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    # Those who only read a summary do not wait for it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    temporary = path.with_name(f".{path.name}.new")
    pq.write_table(pa.table(columns), temporary)
    os.replace(temporary, path)


def _column(values: list[Any]) -> "pa.Array":
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    # Choices may mix kinds, a column may not.
    if len(kinds) > 1 and kinds != {int, float}:
        return pa.array([None if value is None else str(value) for value in values])
    return pa.array([float(v) if v is not None and kinds == {int, float} else v for v in values])


def _text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)


def _copy_folder(source: Path, target: Path) -> None:
    if not source.is_dir():
        return
    temporary = target.with_name(f".{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    if target.exists():
        shutil.rmtree(target)
    os.rename(temporary, target)
