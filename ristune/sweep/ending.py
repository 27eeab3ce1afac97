"""What the command says of a sweep that has ended."""

import sys
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from ristune.sweep import results
from ristune.sweep.history import History, State
from ristune.sweep.progress import number

# Warnings of Ray, and its traceback if it broke; made when there are any.
RAY_LOG = "ray.log"
SHOWN_CAUSES = 5


def report(console: Console, history: History, directory: Path) -> None:
    """The end of a sweep in a few lines; the last one is the command to go on with."""
    counts = results.summary(history)["trials"]
    table = Table(*counts, title="trials", title_justify="left")
    table.add_row(*(str(count) for count in counts.values()))
    console.print(table)
    best = history.best
    if best is None and history.count(State.INTERRUPTED):
        _print_causes(history)
        print(f"no trial had ended an epoch: there is no best yet\nresults: {directory}")
        return
    if best is None:
        print("error: no trial had a finite validation", file=sys.stderr)
        _print_causes(history)
        print(f"results: {directory}")
        return
    print(f"best: trial {best.id}, objective {number(best.objective)} at epoch {best.best_epoch}")
    # A task's metrics hold what must be beaten (a floor, a constant) beside its network's.
    print("its validation: " + ", ".join(f"{k} {number(v)}" for k, v in best.metrics.items()))
    print(yaml.safe_dump(best.values, sort_keys=False, indent=2), end="")
    print(f"results: {directory}\ntrain the best for longer:")
    print(results.train_command(history))


def print_failure(history: History, directory: Path) -> None:
    """Why a sweep broke, and where to read more of it."""
    print(f"error: {history.ended['reason']}", file=sys.stderr)
    if history.best is not None:
        _print_causes(history)
    if (directory / RAY_LOG).exists():
        print(f"see {directory / RAY_LOG}", file=sys.stderr)


def _print_causes(history: History) -> None:
    for cause, count in list(results.causes(history).items())[:SHOWN_CAUSES]:
        print(f"  {count} x {cause}", file=sys.stderr)
