"""Command: every sweep of a folder, a line each."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ristune import cli
from ristune.errors import InputError
from ristune.sweep.finding import RUNS, is_remote, sweeps
from ristune.sweep.progress import clock, number
from ristune.sweep.standing import Standing, standing

if TYPE_CHECKING:
    from ristune.sweep.home import Home

EXAMPLES = """\
  python -m ristune.sweep list
  python -m ristune.sweep list /shared/runs
  python -m ristune.sweep list s3://bucket/runs
  watch python -m ristune.sweep list"""
PURPOSE = """\
List the sweeps of a folder, the newest first: state, trials that have ended of those that were asked for,
best objective, task, start, and for how long each has run. A damaged journal is listed with its error."""
TITLES = ("name", "state", "trials", "best", "task", "started", "ran for")
RIGHT = ("trials", "best", "ran for")


class Row(NamedTuple):
    """A sweep of the list: when it started, its cells after the name, and what is wrong with its journal."""

    started: float
    name: str
    cells: tuple[str, ...]
    error: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.sweep list`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("sweep list", PURPOSE, EXAMPLES, configured=False)
    parser.add_argument(
        "directory", nargs="?", metavar="DIR", help="folder with sweeps, or its URI (default: runs)"
    )
    given = parser.parse_intermixed_args(argv).directory
    folder = RUNS if given is None or is_remote(given) else Path(given)
    if given is not None and not is_remote(given) and not folder.is_dir():
        raise InputError("DIR", given, "it must be a folder with sweeps", "give the `output` of a sweep")
    if given is not None and is_remote(given):
        # Whoever reads a disk does not wait for what reads stores.
        from ristune.sweep.home import homes

        rows = sorted((_far_row(home) for home in homes(given)), reverse=True)
    else:
        rows = sorted((_row(directory) for directory in sweeps(folder)), reverse=True)
    if not rows:
        print(f"no sweep in {given or folder}")
    else:
        _print(rows)
    return cli.DONE


def _row(directory: Path) -> Row:
    try:
        sweep = Standing(directory)
    except InputError as error:
        return Row(directory.stat().st_mtime, directory.name, (), str(error))
    return _of(sweep, (directory / "journal").stat().st_mtime)


def _far_row(home: "Home") -> Row:
    try:
        sweep = standing(home.uri)
    except InputError as error:
        return Row(0.0, home.name, (), str(error))
    return _of(sweep, sweep.last)


def _of(sweep: Standing, begun: float) -> Row:
    history = sweep.history
    if not history.started:
        return Row(begun, sweep.name, (str(sweep.phase), "-", "-", "-", _when(begun), "-"))
    ended = history.told
    cells = (
        str(sweep.phase),
        f"{ended}/{history.started['requested']}",
        number(history.best.objective if history.best else None),
        str(history.started["source"]["task"]["name"]),
        _when(history.started["time"]),
        clock(history.elapsed(time.time() if sweep.now is None else sweep.now)),
    )
    return Row(history.started["time"], sweep.name, cells)


def _print(rows: Sequence[Row]) -> None:
    lines = [TITLES, *((row.name, *row.cells) for row in rows)]
    whole = [line for line in lines if len(line) == len(TITLES)]
    widths = [max(len(line[column]) for line in whole) for column in range(len(TITLES))]
    widths[0] = max(len(line[0]) for line in lines)
    for number_, line in enumerate(lines):
        # An error has all the columns after the name.
        error = rows[number_ - 1].error if number_ else ""
        cells = [
            f"{cell:>{width}}" if title in RIGHT else f"{cell:{width}}"
            for cell, title, width in zip(line, TITLES, widths, strict=False)
        ]
        print("  ".join([*cells, f"damaged: {error}"] if error else cells).rstrip())


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


if __name__ == "__main__":
    sys.exit(main())
