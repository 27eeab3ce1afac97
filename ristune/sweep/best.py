"""Command: the best trials of a sweep, and any trial as YAML to train it again."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ristune import cli
from ristune.errors import InputError
from ristune.sweep import results
from ristune.sweep.history import TrialHistory
from ristune.sweep.progress import describe, number
from ristune.sweep.standing import Standing, standing

EXAMPLES = """\
  python -m ristune.sweep best runs/wide                # the winner, and the command that trains it longer
  python -m ristune.sweep best wide --top 10            # a table
  python -m ristune.sweep best wide --trial 0012        # any trial
  python -m ristune.sweep best wide --trial 0012 --yaml > 0012.yaml
  python -m ristune.train --from 0012.yaml              # the same training, to the last digit"""
PURPOSE = """\
Show the best trials of a sweep, while it runs and after: values, objective, epoch, validation and checkpoint.
A trial that failed cannot be the best; one that diverged can, if it had a finite validation before."""
WIDEST = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.sweep best`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("sweep best", PURPOSE, EXAMPLES, configured=False)
    parser.add_argument(
        "directory", nargs="?", metavar="DIR", help="folder of the sweep, its name in runs/, or its URI"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--top", type=cli.at_least_one, metavar="N", help="a table of the N best")
    shown.add_argument("--trial", metavar="ID", help="this trial instead of the best")
    parser.add_argument("--yaml", action="store_true", help="print it as a best.yaml, for `train --from`")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.yaml and arguments.top is not None:
        raise InputError("--yaml", f"--top {arguments.top}", "it is of one trial", "give --trial ID instead")
    sweep = standing(arguments.directory)
    if arguments.top is not None:
        _print_table(sweep, arguments.top)
        return cli.DONE
    trial = _winner(sweep) if arguments.trial is None else _named(sweep, arguments.trial)
    if arguments.yaml:
        # Its comment names the file that the example makes of it.
        path = Path(f"{trial.id}.yaml") if arguments.trial is not None else None
        print(results.best_yaml(sweep.history, trial, path), end="")
        return cli.DONE
    _print_trial(sweep, trial)
    return cli.DONE


def ranking(sweep: Standing) -> list[TrialHistory]:
    """The trials that have a finite validation and did not fail, the best first, the earlier of equals."""
    able = [trial for trial in sweep.history.trials.values() if trial.can_win]
    return sorted(able, key=lambda trial: trial.objective or 0.0)


def _winner(sweep: Standing) -> TrialHistory:
    best = sweep.history.best
    if best is None:
        count = len(sweep.history.trials)
        rule = f"a trial with a finite validation is needed, and none of its {count} trials has one"
        remedy = f"see `python -m ristune.sweep status {shlex.quote(sweep.place)}`"
        raise InputError("DIR", sweep.place, rule, remedy)
    return best


def _named(sweep: Standing, text: str) -> TrialHistory:
    trials = sweep.history.trials
    name = text if text in trials else text.zfill(4)
    if name not in trials:
        rule = f"it must be one of its {len(trials)} trials" + (f", {min(trials)} on" if trials else "")
        raise InputError("--trial", text, rule, "see --top N for the best")
    return trials[name]


def _print_table(sweep: Standing, most: int) -> None:
    trials = ranking(sweep)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDEST
    table = Table(box=None, pad_edge=False)
    for title in ("trial", "objective", "epoch", "epochs", "state", "values"):
        table.add_column(title, justify="right" if title in ("objective", "epoch", "epochs") else "left")
    for trial in trials[:most]:
        # Values are what the table is for: they are broken into lines, not cut.
        values = Text(describe(trial.values), overflow="fold")
        row = (trial.id, number(trial.objective), str(trial.best_epoch), str(trial.epoch), str(trial.state))
        table.add_row(*row, values)
    console.print(table)
    left = len(sweep.history.trials) - len(trials)
    if left:
        print(f"{left} of {len(sweep.history.trials)} trials have no finite validation, or failed")


def _print_trial(sweep: Standing, trial: TrialHistory) -> None:
    print(f"{sweep.name}, {sweep.phase}: trial {trial.id}, {trial.state} in epoch {trial.epoch}")
    if trial.reason:
        print(f"reason: {trial.reason}")
    if trial.best_epoch:
        print(f"objective: {trial.objective!r} at epoch {trial.best_epoch}")
    if trial.metrics:
        print("validation: " + ", ".join(f"{name} {number(value)}" for name, value in trial.metrics.items()))
    print("values:")
    print("\n".join(f"  {line}" for line in yaml.safe_dump(trial.values, sort_keys=False).splitlines()))
    if sweep.history.scripted:
        # What a script keeps, and how it trains, only it knows.
        return
    print(f"checkpoint: {_checkpoint(sweep, trial) or 'none'}")
    print("train it for longer:")
    best = sweep.directory / results.BEST_YAML
    if best.is_file() and best.read_text() == results.best_yaml(sweep.history, trial):
        print(results.train_command(sweep.history, best))
        return
    name = f"{trial.id}.yaml"
    directory = shlex.quote(sweep.place)
    print(f"python -m ristune.sweep best {directory} --trial {trial.id} --yaml > {name}")
    print(results.train_command(sweep.history, Path(name)))


def _checkpoint(sweep: Standing, trial: TrialHistory) -> Path | str | None:
    """Where the weights of its best epoch lie; None if they are not there, or not on this machine."""
    if sweep.home is not None:
        return sweep.home.best_of(trial.id, trial.best_epoch)
    own = sweep.directory / "trials" / trial.id / results.BEST
    return own if own.is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
