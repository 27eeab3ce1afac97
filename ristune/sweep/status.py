"""Command: how a sweep stands, while another process runs it and after."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ristune import cli
from ristune.errors import some
from ristune.sweep.history import State, TrialHistory
from ristune.sweep.progress import (
    Display,
    Displays,
    LiveTable,
    PlainLines,
    clock,
    describe,
    number,
    status_line,
)
from ristune.sweep.standing import Phase, Standing, facts, standing

EXAMPLES = """\
  python -m ristune.sweep status runs/wide
  python -m ristune.sweep status wide                  # a name is looked for in runs/ too
  python -m ristune.sweep status wide --follow         # drawn anew until it ends; Ctrl-C leaves it alone
  python -m ristune.sweep status wide --follow > log   # lines, where it is no terminal
  python -m ristune.sweep status s3://bucket/runs/wide --follow   # of a sweep whose output is a bucket
  python -m ristune.sweep status wide --json | jq .best.objective
  python -m ristune.sweep status wide --cluster ray_cluster.yaml   # of a sweep that was submitted there"""
PURPOSE = """\
Say how a sweep stands: trials, the best so far, rungs, pace, failures, and the command to go on with. All of
it is read from the journal: it may be asked at any time, of a sweep that runs as of one that was killed."""
PERIOD = 0.5
SHOWN_RUNNING, SHOWN_CAUSES, SHOWN_WARNINGS, SHOWN_METRICS = 16, 5, 3, 6
LABEL = 10
# Wide enough for any table where lines are read by programs.
WIDEST = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.sweep status`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("sweep status", PURPOSE, EXAMPLES, configured=False)
    parser.add_argument(
        "directory", nargs="?", metavar="DIR", help="folder of the sweep, its name in runs/, or its URI"
    )
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="of a sweep that was submitted to this file's cluster"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print summary.json as of now, and how it stands")
    shown.add_argument("--follow", action="store_true", help="show it until it ends")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.cluster is not None:
        # Ray's launcher takes a second to import, and only a cluster needs it.
        from ristune.sweep.following import ask

        flags = [f"--{word}" for word in ("json", "follow") if getattr(arguments, word)]
        return ask(arguments.cluster, arguments.directory, flags, lambda place: _main([*flags, place]))
    sweep = standing(arguments.directory)
    if arguments.json:
        print(json.dumps(_facts(sweep), indent=2, allow_nan=False))
        return cli.DONE
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDEST
    if arguments.follow and sweep.phase.alive and not _follow(sweep, console):
        print(f"{sweep.name} goes on; it is only shown no more", file=sys.stderr)
        return cli.DONE
    _print(sweep, console)
    return cli.DONE


def _facts(sweep: Standing) -> dict[str, Any]:
    if not sweep.history.started:
        return {"name": sweep.name, "state": str(sweep.phase)}
    return facts(sweep, time.time())


def _follow(sweep: Standing, console: Console) -> bool:
    """Show a sweep until it ends.

    Returns:
        Whether it has ended; else Ctrl-C was pressed.
    """
    try:
        while sweep.phase is Phase.STARTING:
            _wait(sweep)
        history = sweep.history
        if console.is_terminal:
            shown: Display = LiveTable(history, console)
        else:
            print(f"{_headline(sweep)}\n{status_line(history, time.time())}", flush=True)
            shown = PlainLines(history, sys.stdout)
        with closing(Displays([shown])) as displays:
            displays.tick()
            while sweep.phase.alive:
                for event in _wait(sweep):
                    displays.event(event)
                displays.tick()
    except KeyboardInterrupt:
        return False
    return True


def _wait(sweep: Standing) -> Sequence[Mapping[str, Any]]:
    # Another process writes the journal, and tells nobody.
    time.sleep(PERIOD)
    return sweep.news()


def _print(sweep: Standing, console: Console) -> None:
    history = sweep.history
    print(_headline(sweep))
    if not history.started:
        return
    known = facts(sweep, time.time())
    task = history.started["source"]["task"]["name"]
    print(f"{sweep.place}, task {task}, started {ago(history.started['time'])}\n")
    _line("trials", _trials(known))
    _print_best(sweep, known)
    _line("time", _time(known, history.started["resources"]["gpu"] > 0))
    _line("pace", _pace(known))
    rungs = [f"epoch {r['epoch']}: {r['reached']} arrived, {r['went_on']} went on" for r in known["rungs"]]
    _print_list("rungs", rungs, len(rungs))
    _print_list("failures", [f"{n} x {cause}" for cause, n in known["failures"].items()], SHOWN_CAUSES)
    _print_list("warnings", known["warnings"][::-1], SHOWN_WARNINGS)
    _print_running(sweep, console)
    if known["resume"]:
        print(f"\n{'more trials' if sweep.phase is Phase.FINISHED else 'go on with it'}:\n{known['resume']}")


def _headline(sweep: Standing) -> str:
    text = f"{sweep.name}: {sweep.phase}"
    if sweep.phase.alive:
        text += f" by {sweep.driver}"
        # Whether a process of another machine runs can only be told by what it writes.
        if sweep.driver is not None and sweep.driver.alive is None and sweep.last:
            text += f", which last wrote {ago(sweep.last)}"
        return text
    if sweep.phase is Phase.KILLED:
        by = f"{sweep.driver} runs no more" if sweep.driver else "no process runs it"
        return f"{text}: {by}, and did not say that it ends" + (f" ({ago(sweep.last)})" if sweep.last else "")
    reason = sweep.history.ended["reason"]
    return f"{text} {ago(sweep.last)}" + (f": {reason}" if reason else "")


def _trials(known: Mapping[str, Any]) -> str:
    counts = {state: n for state, n in known["trials"].items() if n and state != "total"}
    running = len(known["running"])
    waiting = counts.pop("running", 0) - running
    counts |= {"running": running} if running else {}
    counts |= {"waiting": waiting} if waiting else {}
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    return f"{known['ended']} of {known['requested']} ended" + (f": {states}" if states else "")


def _time(known: Mapping[str, Any], on_gpu: bool) -> str:
    left = f", {clock(known['eta'])} to go" if known["eta"] is not None else ""
    return f"{clock(known['elapsed'])} of running{left}" + (
        f", {known['gpu_hours']:.3g} GPU hours" if on_gpu else ""
    )


def _pace(known: Mapping[str, Any]) -> str:
    if not known["elapsed"]:
        return "-"
    now = f", {_rate(known['samples_per_second'])} samples/s now" if known["running"] else ""
    return f"{_rate(known['trials_per_hour'])} trials/h, {_rate(known['epochs_per_hour'])} epochs/h{now}"


def _rate(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _print_best(sweep: Standing, known: Mapping[str, Any]) -> None:
    best = known["best"]
    if best is None:
        _line("best", "none yet: no trial has a finite validation")
        return
    _line("best", f"{number(best['objective'])} at epoch {best['epoch']}, trial {best['trial']}")
    _line("", describe(best["values"]))
    metrics = [f"{name} {number(value)}" for name, value in best["metrics"].items()]
    _line("", some(metrics, SHOWN_METRICS))


def _print_list(label: str, texts: Sequence[str], most: int) -> None:
    for number_, text in enumerate(texts[:most]):
        _line("" if number_ else label, text)
    if len(texts) > most:
        _line("", f"and {len(texts) - most} more")


def _print_running(sweep: Standing, console: Console) -> None:
    trials = [t for t in sweep.history.trials.values() if t.state in (State.RUNNING, State.INTERRUPTED)]
    if not trials:
        return
    table = Table(box=None, pad_edge=False)
    for title in ("trial", "state", "epoch", "objective", "samples/s", "values"):
        table.add_column(title, justify="right" if title in ("epoch", "objective", "samples/s") else "left")
    for trial in trials[:SHOWN_RUNNING]:
        table.add_row(*_cells(trial, sweep.history.started["epochs"]))
    print()
    console.print(table)
    if len(trials) > SHOWN_RUNNING:
        print(f"and {len(trials) - SHOWN_RUNNING} more")


def _cells(trial: TrialHistory, epochs: int) -> tuple[str | Text, ...]:
    speed = f"{trial.records[-1]['samples_per_second']:.0f}" if trial.records else "-"
    values = Text(describe(trial.values), overflow="ellipsis", no_wrap=True)
    return trial.id, str(trial.state), f"{trial.epoch}/{epochs}", number(trial.objective), speed, values


def _line(label: str, text: str) -> None:
    print(f"{label:{LABEL}}{text}")


def ago(then: float) -> str:
    """A time of the past, as people say it."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))
    return f"{when} ({clock(max(0.0, time.time() - then))} ago)"


if __name__ == "__main__":
    sys.exit(main())
