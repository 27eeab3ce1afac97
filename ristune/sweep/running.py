"""A sweep from its plan to its exit status: run, shown, its results written and told."""

import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from rich.console import Console

from ristune import cli
from ristune.sweep import ending, results
from ristune.sweep.history import History
from ristune.sweep.home import TRIALS
from ristune.sweep.journal import Journal
from ristune.sweep.progress import Display, Displays, LiveTable, PlainLines

if TYPE_CHECKING:
    from ristune.sweep.tuner import SweepPlan


def run(sweep: "SweepPlan", journal: Journal) -> int:
    """Run a sweep, show it, and write and print what came of it.

    Args:
        sweep: what to run.
        journal: an empty one, or that of the sweep so far.

    Returns:
        The exit status.
    """
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
    _write_results(sweep, journal.history)
    if outcome == BROKEN:
        ending.print_failure(journal.history, sweep.directory)
    if outcome == INTERRUPTED:
        print(f"interrupted: what the trials reported is saved in {sweep.directory}", file=sys.stderr)
    ending.report(console, journal.history, sweep.directory)
    if outcome != FINISHED:
        place = str(sweep.directory) if sweep.home is None else sweep.home.uri
        print(f"go on with the sweep:\npython -m ristune.sweep --resume {shlex.quote(place)}")
    if outcome == INTERRUPTED:
        return cli.INTERRUPTED
    return cli.FAILED if outcome == BROKEN or journal.history.best is None else cli.DONE


def _write_results(sweep: "SweepPlan", history: History) -> None:
    best, home = history.best, sweep.home
    if home is not None and best is not None:
        home.fetch_best(best.id, best.best_epoch, sweep.directory / TRIALS / best.id / results.BEST)
    results.write(sweep.directory, history)
    found = (sweep.directory / results.BEST).is_dir()
    if home is not None:
        home.finish(sweep.directory, results.FILES, results.BEST if found else None)
        for error in home.errors():
            print(f"warning: {error}", file=sys.stderr)
    if best is not None and not found:
        print(
            f"warning: the winner's checkpoint is not in {sweep.directory}: its node wrote it elsewhere; "
            "all nodes must share the output folder, or give output=s3://...",
            file=sys.stderr,
        )
