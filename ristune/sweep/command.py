"""Command: search for the best values, many trials on this machine or on a Ray cluster."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ristune import cli
from ristune.config import Config
from ristune.errors import InputError
from ristune.simulate import ensure_dataset
from ristune.sweep import ending, results
from ristune.sweep.checking import check, check_resumption, sweep_name
from ristune.sweep.dry_run import print_plan
from ristune.sweep.history import History
from ristune.sweep.journal import FILE, Journal
from ristune.sweep.order import add_options, check_options
from ristune.sweep.progress import Display, Displays, LiveTable, PlainLines
from ristune.sweep.resources import local_cores, local_gpus, plan, plan_cluster
from ristune.sweep.resuming import check_dataset, open_sweep, restored, trials_in_total
from ristune.training.device import resolve_device
from ristune.trial import prepare

if TYPE_CHECKING:
    from ristune.sweep.tuner import SweepPlan

DEFAULT_TRIALS = 20
EXAMPLES = """\
  python -m ristune.sweep --trials 20                            # on every core or GPU of this machine
  python -m ristune.sweep --trials 20 --dry-run                  # show what would be run, and run nothing
  python -m ristune.sweep --trials 200 --name wide space=wide training.epochs=50
  python -m ristune.sweep --trials 50 sweep.sampler=random sweep.concurrency=4
  python -m ristune.sweep --trials 50 task=mine space=mine --config-dir my_configs   # a task of your own
  python -m ristune.sweep --resume runs/NAME                     # go on after Ctrl-C or a crash
  python -m ristune.sweep --resume runs/NAME --trials 400        # more trials for a sweep that has ended
  python -m ristune.sweep --trials 50 --enqueue runs/OLD/best.yaml --warm-start runs/OLD   # what is known
  python -m ristune.sweep --trials 500 --address auto training.device=cuda sweep.concurrency=8
                                                       # on a Ray cluster whose nodes share this folder
  python -m ristune.sweep --trials 200 --cluster ray_cluster.yaml output=s3://bucket/runs
                                                       # on a cluster that is started for it, from this laptop
  python -m ristune.sweep --cluster ray_cluster.yaml --attach NAME   # follow it again (docs/cluster.md)
  python -m ristune.sweep status NAME --follow                   # how a sweep stands, from any terminal
  python -m ristune.sweep list                                   # all sweeps of runs/
  python -m ristune.sweep best NAME --top 10                     # its best trials; --help of each says more

a sweep writes to OUTPUT/NAME/ (runs/NAME/): summary.json, best.yaml, best/ (checkpoint), trials.parquet,
records.parquet, config.yaml, sweep.log, journal/ (all that happened), trials/ (a folder a trial).
Ctrl-C stops it cleanly and keeps all results; --resume goes on, each trial from its last checkpoint."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.sweep`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_intermixed_args(argv)
    command = shlex.join(["python", "-m", "ristune.sweep", *argv])
    check_options(arguments)
    check_resumption(arguments)
    if arguments.cluster is not None:
        # Ray's launcher and its client take a second to import: no other sweep needs them.
        from ristune.sweep.submit import run

        return run(arguments, arguments.trials or DEFAULT_TRIALS)
    if arguments.resume is not None:
        return _resume(arguments, command)
    config = cli.configure(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    directory = _directory(config, sweep_name(arguments.name, config))
    sweep = _plan(arguments, config, arguments.trials or DEFAULT_TRIALS, directory, command, None)
    if sweep is None:
        return cli.DONE
    with closing(Journal(directory / "journal" / FILE)) as journal:
        return _run(sweep, journal)


def _resume(arguments: argparse.Namespace, command: str) -> int:
    """Go on with a sweep, as it was configured."""
    # `.` has no name.
    directory = arguments.resume if arguments.resume.name else arguments.resume.resolve()
    with closing(open_sweep(directory)) as journal:
        config = restored(journal.history, arguments.overrides)
        if arguments.show_config:
            print(cli.show(config.resolved()), end="")
            return cli.DONE
        trials = trials_in_total(journal.history, arguments.trials)
        sweep = _plan(arguments, config, trials, directory, command, journal.history)
        return cli.DONE if sweep is None else _run(sweep, journal)


def _plan(
    arguments: argparse.Namespace,
    config: Config,
    trials: int,
    directory: Path,
    command: str,
    history: History | None,
) -> "SweepPlan | None":
    """Everything that is wrong is found here, before Ray is started; None if it is only to be shown.

    Args:
        arguments: of the command line.
        config: of the sweep.
        trials: in total.
        directory: of the sweep.
        command: the command line itself.
        history: of the sweep that is resumed.
    """
    space, knowledge = check(arguments, config)
    resources = (
        plan(local_cores(), local_gpus(config.training.device), trials, config.sweep)
        if arguments.address is None
        else plan_cluster(config.training.device, trials, config.sweep)
    )
    console = Console()
    if arguments.dry_run:
        print_plan(console, config, space, trials, directory, resources, history, knowledge)
        return None
    cli.check_writable("output", directory.parent)
    ensure_dataset(config, console)
    if arguments.address is None:
        resolve_device(config.training.device)
    dataset_id = _check_task(config, here=arguments.address is None, console=console)
    if history is not None:
        check_dataset(history, dataset_id, config.data.uri)
    # Ray takes a second to import: nothing above needs it.
    from ristune.sweep.tuner import SweepPlan

    return SweepPlan(
        name=directory.name if history is None else history.started["name"],
        directory=directory,
        config=config,
        space=space,
        trials=trials,
        dataset_id=dataset_id,
        resources=resources,
        knowledge=knowledge,
        command=command,
        address=arguments.address,
    )


def _parser() -> cli.Parser:
    description = (
        "Search for the best values: Optuna proposes trials, Ray runs them, ASHA stops the poor ones."
    )
    parser = cli.Parser("sweep", description, EXAMPLES)
    parser.add_argument(
        "--trials",
        type=cli.at_least_one,
        metavar="N",
        help=f"trials in total (default: {DEFAULT_TRIALS}, or as many as the resumed sweep was to have)",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with the sweep in DIR: first with trials that have not ended, from their checkpoints",
    )
    parser.add_argument(
        "--enqueue",
        type=Path,
        action="append",
        metavar="FILE",
        help="try the points of this YAML first: a best.yaml, or values by path, or a list of such",
    )
    parser.add_argument(
        "--warm-start",
        type=Path,
        action="append",
        metavar="DIR",
        help="let the sampler learn from the trials of the sweep in DIR, of the same objective",
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
    add_options(parser)
    return parser


def _directory(config: Config, name: str) -> Path:
    """The sweep's folder, which may not exist yet."""
    if "://" in config.output:
        raise InputError("output", config.output, "a sweep writes to a folder of this machine", "give a path")
    directory = Path(config.output) / name
    if directory.exists():
        remedy = f"choose another name, or go on with it: --resume {shlex.quote(str(directory))}"
        raise InputError("--name", name, f"{directory} exists already", remedy)
    return directory


def _check_task(config: Config, here: bool, console: Console) -> str:
    """Build what every trial builds, once, on the CPU: what is wrong with all is known before any starts.

    Where trials run on this machine their dataset is then fetched already; a cluster's head keeps nothing.

    Returns:
        The id of the dataset.

    Raises:
        InputError: if the dataset, the task or the objective is refused.
    """
    mode = "windowed" if not here else "auto" if config.data.mode == "gpu" else config.data.mode
    on_cpu = {"training.device": "cpu", "training.precision": "fp32", "data.mode": mode}
    trial = prepare(config.with_values(on_cpu), console.print)
    trial.trainer.check_objective()
    return trial.dataset.dataset_id


def _run(sweep: "SweepPlan", journal: Journal) -> int:
    from ristune.sweep.tuner import BROKEN, FINISHED, INTERRUPTED, run_sweep

    console = Console()
    (sweep.directory / "config.yaml").write_text(cli.show(sweep.config.resolved()))
    print(f"sweep {sweep.name}: {sweep.trials} trials, {sweep.resources.describe()}")
    with (sweep.directory / "sweep.log").open("a") as log:
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
        ending.print_failure(journal.history, sweep.directory)
    if outcome == INTERRUPTED:
        print(f"interrupted: what the trials reported is saved in {sweep.directory}", file=sys.stderr)
    ending.report(console, journal.history, sweep.directory)
    if outcome != FINISHED:
        print(f"go on with the sweep:\npython -m ristune.sweep --resume {shlex.quote(str(sweep.directory))}")
    if outcome == INTERRUPTED:
        return cli.INTERRUPTED
    return cli.FAILED if outcome == BROKEN or journal.history.best is None else cli.DONE
