"""How a sweep stands: a live table on a terminal, greppable lines in a file; neither can end a sweep."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ristune.sweep.history import History, State, TrialHistory

STATUS_PERIOD = 10.0
REFRESH_PERIOD = 0.25
# Rows of the live table, so that a sweep of hundreds still fits a screen.
MAX_RUNNING, MAX_BEST, MAX_RECENT = 12, 4, 4
_STYLES = {State.RUNNING: "cyan", State.COMPLETE: "green", State.DIVERGED: "red", State.FAILED: "red"}


class Display(Protocol):
    """Shows a history that another hand keeps."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Take note of an event that the history has just taken in."""
        ...

    def tick(self) -> None:
        """Show how things stand, if it is time to."""
        ...

    def close(self) -> None:
        """Show the last state and let go of the terminal."""
        ...


class Displays:
    """Several displays as one; one that fails is dropped with a word on stderr.

    Args:
        displays: in the order in which they are told.
    """

    def __init__(self, displays: Sequence[Display]) -> None:
        self._displays = list(displays)

    def event(self, event: Mapping[str, Any]) -> None:
        """Pass on an event."""
        self._each(lambda display: display.event(event))

    def tick(self) -> None:
        """Pass on a tick."""
        self._each(lambda display: display.tick())

    def close(self) -> None:
        """Close them all."""
        self._each(lambda display: display.close())
        self._displays.clear()

    def _each(self, action: Callable[[Display], None]) -> None:
        for display in list(self._displays):
            try:
                action(display)
            # A picture of the sweep is not worth the sweep, whatever breaks in drawing it.
            except Exception as error:
                self._displays.remove(display)
                print(f"warning: {type(display).__name__} failed and is off: {error!r}", file=sys.stderr)


class PlainLines:
    """One line when a trial starts or ends, and a status line now and then.

    Args:
        history: what to show.
        stream: where to write; it is not closed.
    """

    def __init__(self, history: History, stream: TextIO) -> None:
        self._history = history
        self._stream = stream
        self._shown = time.monotonic()

    def event(self, event: Mapping[str, Any]) -> None:
        """Write the event's line, if it has one."""
        line = event_line(self._history, event)
        if line:
            self._write(line)

    def tick(self) -> None:
        """Write a status line every `STATUS_PERIOD` seconds."""
        if time.monotonic() - self._shown >= STATUS_PERIOD:
            self._status()

    def close(self) -> None:
        """Write the last status line."""
        self._status()

    def _status(self) -> None:
        self._shown = time.monotonic()
        self._write(status_line(self._history, time.time()))

    def _write(self, line: str) -> None:
        self._stream.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._stream.flush()


class LiveTable:
    """A table that is drawn anew in place.

    Args:
        history: what to show.
        console: a terminal.
    """

    def __init__(self, history: History, console: Console) -> None:
        self._history = history
        # Drawn from the sweep's own loop: a second thread would read the history while it changes.
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._live.start()
        self._shown = 0.0

    def event(self, event: Mapping[str, Any]) -> None:
        """Wait for the next tick."""

    def tick(self) -> None:
        """Draw, a few times a second at most."""
        if time.monotonic() - self._shown >= REFRESH_PERIOD:
            self._shown = time.monotonic()
            self._live.update(table(self._history, time.time()), refresh=True)

    def close(self) -> None:
        """Draw the last state and leave it on the screen."""
        self._live.update(table(self._history, time.time()), refresh=True)
        self._live.stop()


def event_line(history: History, event: Mapping[str, Any]) -> str:
    """An event as a line of `key=value`; empty for those that a reader can do without."""
    kind = event["event"]
    if kind == "sweep_started":
        return f"sweep={event['name']} started trials={event['requested']}"
    if kind == "sweep_ended":
        return f"sweep {event['outcome']}" + (f" reason={event['reason']!r}" if event["reason"] else "")
    if kind == "warned":
        return f"trial={event['trial']} warning={event['text']!r}"
    if kind == "sweep_resumed":
        return f"sweep={history.started['name']} resumed trials={event['requested']}"
    if kind == "started":
        trial = history.trials[event["trial"]]
        return f"trial={trial.id} started {describe(trial.values)}"
    if kind == "retried":
        return f"trial={event['trial']} lost, runs again reason={event['reason']!r}"
    if kind in ("told", "paused"):
        trial = history.trials[event["trial"]]
        words = [f"trial={trial.id} {trial.state} epoch={trial.epoch} objective={number(trial.objective)}"]
        best = history.best
        if best is not None:
            words.append(f"best={number(best.objective)} best_trial={best.id}")
        if reason := event["reason"] or trial.reason:
            words.append(f"reason={reason!r}")
        return " ".join(words)
    return ""


def status_line(history: History, now: float) -> str:
    """Counts, best, elapsed and remaining time, on one line.

    Args:
        history: what to show.
        now: Unix seconds.
    """
    best = history.best
    words = [
        f"status finished={_finished(history)}/{history.started.get('requested', 0)}",
        f"running={history.count(State.RUNNING)}",
        f"best={number(best.objective if best else None)}",
        f"elapsed={clock(history.elapsed(now))}",
    ]
    if not history.ended:
        remaining = eta(history, now)
        words.append(f"eta={'?' if remaining is None else clock(remaining)}")
    return " ".join(words)


def eta(history: History, now: float) -> float | None:
    """Seconds until the sweep ends at the pace so far; None before there is a pace, and at the end.

    A trial is taken to last as many epochs as those that ended did on average, and one that has lasted
    longer, to train to its end.

    Args:
        history: what is known.
        now: Unix seconds.
    """
    ended = [trial for trial in history.trials.values() if trial.state.ended]
    if history.ended:
        return None
    epochs: int = history.started["epochs"]
    usual = sum(trial.epoch for trial in ended) / len(ended) if ended else epochs
    running = [trial for trial in history.trials.values() if trial.state is State.RUNNING]
    done = sum(trial.epoch for trial in (*ended, *running))
    if not done:
        return None
    to_start = history.started["requested"] - len(ended) - len(running)
    left = sum((usual if trial.epoch < usual else epochs) - trial.epoch for trial in running)
    return max(0.0, float(history.elapsed(now) * (usual * to_start + left) / done))


def table(history: History, now: float) -> Group:
    """The header and the trials worth a row: those running, the best, and the latest to end.

    Args:
        history: what to show.
        now: Unix seconds.
    """
    rows = Table(box=None, pad_edge=False)
    for title in ("trial", "state", "epoch", "objective", "samples/s", "values"):
        rows.add_column(title, justify="right" if title in ("epoch", "objective", "samples/s") else "left")
    running = [trial for trial in history.trials.values() if trial.state is State.RUNNING]
    for trial in running[:MAX_RUNNING]:
        _row(rows, trial)
    if len(running) > MAX_RUNNING:
        rows.add_row("...", f"{len(running) - MAX_RUNNING} more running")
    ended = [trial for trial in history.trials.values() if trial.state.ended]
    best = sorted((t for t in ended if t.can_win), key=lambda t: t.objective or 0.0)[:MAX_BEST]
    _section(rows, "best", best)
    resting = [trial for trial in history.trials.values() if trial.state is State.INTERRUPTED]
    others = [*resting, *(t for t in ended if t not in best)]
    recent = sorted(others, key=lambda t: t.ended or 0.0, reverse=True)
    _section(rows, "others", recent[:MAX_RECENT])
    return Group(Text(f"{history.started.get('name', '')}  {status_line(history, now)}", style="bold"), rows)


def describe(values: Mapping[str, Any]) -> str:
    """Searched values in short: `lr=0.00123 width=16`."""
    names = short_names(list(values))
    return " ".join(f"{names[path]}={number(value)}" for path, value in values.items())


def short_names(paths: list[str]) -> dict[str, str]:
    """The shortest endings of the paths that still tell them apart: `lr` for `optimizer.lr`."""
    names: dict[str, str] = {}
    for path in paths:
        parts = path.split(".")
        endings = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        names[path] = next(
            (e for e in endings if not any(p != path and f".{p}".endswith(f".{e}") for p in paths)), path
        )
    return names


def number(value: Any) -> str:
    """A value in short; a float by four digits that count."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """A duration as `1:02:03`."""
    return str(timedelta(seconds=round(seconds)))


def _section(rows: Table, title: str, trials: Sequence[TrialHistory]) -> None:
    if trials:
        rows.add_section()
        rows.add_row(Text(title, style="dim"))
    for trial in trials:
        _row(rows, trial)


def _row(rows: Table, trial: TrialHistory) -> None:
    speed = f"{trial.records[-1]['samples_per_second']:.0f}" if trial.records else "-"
    state = Text(str(trial.state), style=_STYLES.get(trial.state, ""))
    values = Text(describe(trial.values), overflow="ellipsis", no_wrap=True)
    rows.add_row(trial.id, state, str(trial.epoch), number(trial.objective), speed, values)


def _finished(history: History) -> int:
    return history.told
