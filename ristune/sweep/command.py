"""Command: search for the best values, many trials on this machine or on a Ray cluster."""

import argparse
import shlex
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ristune import cli
from ristune.config import Config
from ristune.errors import InputError
from ristune.simulate import ensure_dataset
from ristune.sweep.checking import check, check_resumption, sweep_name
from ristune.sweep.dry_run import print_plan
from ristune.sweep.finding import RUNS, is_remote
from ristune.sweep.history import History
from ristune.sweep.home import Home
from ristune.sweep.journal import FILE, Journal
from ristune.sweep.order import add_options, check_options
from ristune.sweep.resources import local_cores, local_gpus, plan, plan_cluster
from ristune.sweep.resuming import check_dataset, locate, open_sweep, restored, trials_in_total
from ristune.sweep.running import run
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
        from ristune.sweep import submit

        return submit.run(arguments, arguments.trials or DEFAULT_TRIALS)
    if arguments.resume is not None:
        return _resume(arguments, command)
    config = cli.configure(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    directory, home = _place(config, sweep_name(arguments.name, config))
    trials = arguments.trials or DEFAULT_TRIALS
    sweep = _plan(arguments, config, trials, directory, home, command, None)
    if sweep is None:
        return cli.DONE
    segments = None if home is None else home.segments
    with closing(Journal(directory / "journal" / FILE, segments)) as journal:
        return run(sweep, journal)


def _resume(arguments: argparse.Namespace, command: str) -> int:
    """Go on with a sweep, as it was configured."""
    directory, home = locate(arguments.resume)
    with closing(open_sweep(directory, home)) as journal:
        config = restored(journal.history, arguments.overrides)
        if arguments.show_config:
            print(cli.show(config.resolved()), end="")
            return cli.DONE
        trials = trials_in_total(journal.history, arguments.trials)
        sweep = _plan(arguments, config, trials, directory, home, command, journal.history)
        return cli.DONE if sweep is None else run(sweep, journal)


def _plan(
    arguments: argparse.Namespace,
    config: Config,
    trials: int,
    directory: Path,
    home: Home | None,
    command: str,
    history: History | None,
) -> "SweepPlan | None":
    """Everything that is wrong is found here, before Ray is started; None if it is only to be shown.

    Args:
        arguments: of the command line.
        config: of the sweep.
        trials: in total.
        directory: of the sweep.
        home: of the sweep, if it is an object store.
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
    if home is not None:
        home.store.ensure_writable()
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
        home=home,
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
        metavar="DIR",
        help="go on with the sweep in DIR, a folder or a URI: first with trials that have not ended, from "
        "their checkpoints",
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


def _place(config: Config, name: str) -> tuple[Path, Home | None]:
    """The sweep's folder, and its home if that is an object store; neither may exist yet."""
    home = Home.below(config.output, name) if is_remote(config.output) else None
    directory = Path(config.output) / name if home is None else RUNS / name
    place = str(directory) if home is None or directory.exists() else home.uri
    if directory.exists() or (home is not None and home.segments.there()):
        remedy = f"choose another name, or go on with it: --resume {shlex.quote(place)}"
        raise InputError("--name", name, f"{place} exists already", remedy)
    return directory, home


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
