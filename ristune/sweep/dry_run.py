"""What `--dry-run` says of a sweep."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from ristune import cli
from ristune.config import Config
from ristune.sweep.history import History
from ristune.sweep.knowledge import Knowledge
from ristune.sweep.progress import describe
from ristune.sweep.proposing import preview
from ristune.sweep.resources import Resources
from ristune.sweep.shares import rung_levels, shares, total_epochs
from ristune.sweep.space import Space

PREVIEWED = 5
# Schedulers whose rungs are those of successive halving.
_HALVING = {"asha": "one in {} goes on", "hyperband": "one in {} goes on, in brackets that begin later"}


def print_plan(
    console: Console,
    config: Config,
    space: Space,
    trials: int,
    directory: Path | str,
    resources: Resources,
    history: History | None,
    knowledge: Knowledge,
) -> None:
    """Print the configuration, the space, when trials are stopped, and the first of them.

    Args:
        console: for tables.
        config: of the sweep.
        space: what is searched.
        trials: in total.
        directory: of the sweep.
        resources: on which it would run.
        history: of the sweep that would be resumed.
        knowledge: what it would know before its first trial.
    """
    print(cli.show(config.resolved()))
    table = Table("path", "distribution", title="space", title_justify="left")
    if space.conditional:
        table.add_column("when")
    for path, parameter in space.parameters.items():
        when = [parameter.condition()] if space.conditional else []
        table.add_row(path, parameter.distribution.describe(), *when)
    console.print(table)
    for text in space.constraints:
        print(f"constraint: {text}")
    epochs = total_epochs(config.sweep, config.training.epochs)
    print(f"\n{trials} trials of {epochs} epochs; {stopping(config)}")
    print(f"resources: {resources.describe()}\nfolder: {directory}")
    for line in knowledge.describe():
        print(line)
    if history is not None:
        ended = history.told
        print(f"of these, {ended} have ended and {len(history.trials) - ended} go on")
        return
    print(f"first trials ({config.sweep.sampler}, seed {config.sweep.seed}):")
    for values in preview(space, config.sweep, min(trials, PREVIEWED), knowledge.points):
        print(f"  {describe(values)}")


def stopping(config: Config) -> str:
    """When trials are stopped, in a line."""
    sweep = config.sweep
    levels = rung_levels(sweep, config.training.epochs)
    if sweep.scheduler == "none" or not levels:
        return "none is stopped early"
    if sweep.scheduler == "median":
        return f"stopped from epoch {levels[0]} on if worse than the median"
    if sweep.resource == "data":
        rungs = "rungs after the shares " + ", ".join(f"{share:g}" for share in shares(sweep)[:-1])
    else:
        rungs = "rungs at the epochs " + ", ".join(str(level) for level in levels)
    return f"{rungs}; {_HALVING[sweep.scheduler].format(sweep.reduction)}"
