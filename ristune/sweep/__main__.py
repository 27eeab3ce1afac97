"""Command: search for the best values, many trials on this machine or on a Ray cluster."""

import re
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.table import Table

from ristune import cli
from ristune.config import Config
from ristune.errors import InputError
from ristune.simulate import ensure_dataset
from ristune.sweep import results
from ristune.sweep.history import History, State
from ristune.sweep.journal import FILE, Journal
from ristune.sweep.progress import Display, Displays, LiveTable, PlainLines, describe, number
from ristune.sweep.resources import Resources, local_cores, local_gpus, plan, plan_cluster
from ristune.sweep.sampler import preview
from ristune.sweep.space import Space, parse_space
from ristune.training.device import resolve_device
from ristune.trial import prepare

if TYPE_CHECKING:
    from ristune.sweep.tuner import SweepPlan

DEFAULT_TRIALS = 20
PREVIEWED = 5
SHOWN_CAUSES = 5
EXAMPLES = """\
  python -m ristune.sweep --trials 20                            # on every core or GPU of this machine
  python -m ristune.sweep --trials 20 --dry-run                  # show what would be run, and run nothing
  python -m ristune.sweep --trials 200 --name wide space=wide training.epochs=50
  python -m ristune.sweep --trials 50 sweep.sampler=random sweep.concurrency=4
  python -m ristune.sweep --trials 50 task=mine space=mine --config-dir my_configs   # a task of your own
  python -m ristune.sweep --trials 500 --address auto training.device=cuda sweep.concurrency=8
                                                       # on a Ray cluster whose nodes share this folder

a sweep writes to OUTPUT/NAME/ (runs/NAME/): summary.json, best.yaml, best/ (checkpoint), trials.parquet,
records.parquet, config.yaml, sweep.log, journal/ (all that happened), trials/ (a folder a trial).
Ctrl-C stops it cleanly and keeps all results."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.sweep`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_intermixed_args(argv)
    config = cli.configure(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    space = parse_space(config)
    _check_grace(config)
    name = arguments.name or f"{config.task['name']}-{time.strftime('%Y%m%d-%H%M%S')}"
    directory = _directory(config, name)
    gpus = local_gpus(config.training.device)
    resources = (
        plan(local_cores(), gpus, arguments.trials, config.sweep)
        if arguments.address is None
        else plan_cluster(config.training.device, arguments.trials, config.sweep)
    )
    console = Console()
    if arguments.dry_run:
        _describe(console, config, space, arguments.trials, directory, resources)
        return cli.DONE
    cli.check_writable("output", Path(config.output))
    ensure_dataset(config, console)
    if arguments.address is None:
        resolve_device(config.training.device)
    _check_task(config, here=arguments.address is None, console=console)
    # Ray takes a second to import: nothing above needs it.
    from ristune.sweep.tuner import SweepPlan

    sweep = SweepPlan(
        name=name,
        directory=directory,
        config=config,
        space=space,
        trials=arguments.trials,
        resources=resources,
        command=shlex.join(["python", "-m", "ristune.sweep", *argv]),
        address=arguments.address,
    )
    return _run(sweep, console)


def _parser() -> cli.Parser:
    description = (
        "Search for the best values: Optuna proposes trials, Ray runs them, ASHA stops the poor ones."
    )
    parser = cli.Parser("sweep", description, EXAMPLES)
    parser.add_argument(
        "--trials",
        type=cli.at_least_one,
        default=DEFAULT_TRIALS,
        metavar="N",
        help=f"trials in total (default: {DEFAULT_TRIALS})",
    )
    parser.add_argument("--name", metavar="NAME", help="of the sweep and its folder (default: TASK-TIME)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check configuration and space, print what would be run; the dataset is not looked at",
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="of a running Ray cluster, or auto (default: start Ray here)"
    )
    return parser


def _check_grace(config: Config) -> None:
    if config.sweep.grace > config.training.epochs:
        raise InputError(
            "sweep.grace",
            config.sweep.grace,
            f"it must be at most training.epochs ({config.training.epochs})",
            "lower it, or train for longer",
        )


def _directory(config: Config, name: str) -> Path:
    """The sweep's folder, which may not exist yet."""
    if "://" in config.output:
        raise InputError("output", config.output, "a sweep writes to a folder of this machine", "give a path")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError("--name", name, "it must be letters, digits, '.', '_' and '-'", "choose another")
    directory = Path(config.output) / name
    if directory.exists():
        raise InputError(
            "--name", name, f"{directory} exists already", "choose another name, or move the folder"
        )
    return directory


def _check_task(config: Config, here: bool, console: Console) -> None:
    """Build what every trial builds, once, on the CPU: what is wrong with all is known before any starts.

    Where trials run on this machine their dataset is then fetched already; a cluster's head keeps nothing.

    Raises:
        InputError: if the dataset, the task or the objective is refused.
    """
    mode = "windowed" if not here else "auto" if config.data.mode == "gpu" else config.data.mode
    on_cpu = {"training.device": "cpu", "training.precision": "fp32", "data.mode": mode}
    prepare(config.with_values(on_cpu), console.print).trainer.check_objective()


def _describe(
    console: Console,
    config: Config,
    space: Space,
    trials: int,
    directory: Path,
    resources: Resources,
) -> None:
    print(cli.show(config.resolved()))
    table = Table("path", "distribution", title="space", title_justify="left")
    for path, distribution in space.items():
        table.add_row(path, distribution.describe())
    console.print(table)
    rungs = f"stopping from epoch {config.sweep.grace} on, one in {config.sweep.reduction} goes on"
    print(f"\n{trials} trials of {config.training.epochs} epochs; {rungs}")
    print(f"resources: {resources.describe()}\nfolder: {directory}")
    print(f"first trials ({config.sweep.sampler}, seed {config.sweep.seed}):")
    for values in preview(space, config.sweep, min(trials, PREVIEWED)):
        print(f"  {describe(values)}")


def _run(sweep: "SweepPlan", console: Console) -> int:
    from ristune.sweep.tuner import BROKEN, INTERRUPTED, run_sweep

    sweep.directory.mkdir(parents=True)
    (sweep.directory / "config.yaml").write_text(cli.show(sweep.config.resolved()))
    journal = Journal(sweep.directory / "journal" / FILE)
    print(f"sweep {sweep.name}: {sweep.trials} trials, {sweep.resources.describe()}")
    with closing(journal), (sweep.directory / "sweep.log").open("a") as log:
        shown: Display = (
            LiveTable(journal.history, console)
            if console.is_terminal
            else PlainLines(journal.history, sys.stdout)
        )
        with closing(Displays([shown, PlainLines(journal.history, log)])) as displays:
            outcome = run_sweep(sweep, journal, displays)
    results.write(sweep.directory, journal.history)
    if journal.history.best is not None and not (sweep.directory / results.BEST).is_dir():
        print(
            f"warning: the winner's checkpoint is not in {sweep.directory}: its node wrote it elsewhere; "
            "all nodes must share the output folder",
            file=sys.stderr,
        )
    if outcome == BROKEN:
        print(f"error: {journal.history.ended['reason']}; see {sweep.directory / 'ray.log'}", file=sys.stderr)
    if outcome == INTERRUPTED:
        print(f"interrupted: what the trials reported is saved in {sweep.directory}", file=sys.stderr)
    _report(console, journal.history, sweep.directory)
    if outcome == INTERRUPTED:
        return cli.INTERRUPTED
    return cli.FAILED if outcome == BROKEN or journal.history.best is None else cli.DONE


def _report(console: Console, history: History, directory: Path) -> None:
    """The end of a sweep in a few lines; the last one is the command to go on with."""
    counts = results.summary(history)["trials"]
    table = Table(*counts, title="trials", title_justify="left")
    table.add_row(*(str(count) for count in counts.values()))
    console.print(table)
    best = history.best
    if best is None and history.count(State.INTERRUPTED):
        print(f"no trial had ended an epoch: there is no best yet\nresults: {directory}")
        return
    if best is None:
        print("error: no trial had a finite validation", file=sys.stderr)
        for cause, count in list(results.causes(history).items())[:SHOWN_CAUSES]:
            print(f"  {count} x {cause}", file=sys.stderr)
        print(f"results: {directory}")
        return
    print(f"best: trial {best.id}, objective {number(best.objective)} at epoch {best.best_epoch}")
    # A task's metrics hold what must be beaten (a floor, a constant) beside its network's.
    print("its validation: " + ", ".join(f"{k} {number(v)}" for k, v in best.metrics.items()))
    print(yaml.safe_dump(best.values, sort_keys=False, indent=2), end="")
    print(f"results: {directory}\ntrain the best for longer:")
    print(results.train_command(history))


if __name__ == "__main__":
    sys.exit(main())
