import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from ristune.sweep import progress
from ristune.sweep.history import History
from ristune.sweep.progress import (
    Displays,
    LiveTable,
    PlainLines,
    eta,
    event_line,
    short_names,
    status_line,
    table,
)
from tests.sweep.events import asked, history, mixed, paused, reported, resumed, retried, started, told


def shown(sweep: History, now: float = 120.0, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=100, height=height)
    with console.capture() as capture:
        console.print(table(sweep, now))
    return capture.get()


def test_an_event_is_one_line_that_can_be_grepped() -> None:
    sweep = mixed()
    lines = [
        event_line(sweep, started("0000")),
        event_line(sweep, told("0001", "stopped", reason="above the cutoff")),
        event_line(sweep, {"event": "sweep_ended", "outcome": "finished", "reason": ""}),
    ]
    assert lines == [
        "trial=0000 started lr=0.1 width=4",
        "trial=0001 stopped epoch=1 objective=0.75 best=0.25 best_trial=0000 reason='above the cutoff'",
        "sweep finished",
    ]
    assert event_line(sweep, reported("0000", 1, 0.5)) == ""


def test_a_lost_actor_is_one_line_with_its_cause() -> None:
    sweep = mixed()
    cause = {"event": "failed", "time": 1.0, "trial": "0005", "state": "failed", "reason": "killed"}
    assert event_line(sweep, cause) == ""
    assert event_line(sweep, retried("0005")) == "trial=0005 lost, runs again reason='killed'"
    assert event_line(sweep, told("0003", "failed", reason="killed")).startswith("trial=0003 failed epoch=1")


def test_a_sweep_that_goes_on_says_so() -> None:
    sweep = mixed()
    sweep.apply(paused("0005"))
    assert event_line(sweep, paused("0005")).startswith(
        "trial=0005 interrupted epoch=1 objective=0.5 best=0.25"
    )
    assert event_line(sweep, resumed(requested=9)) == "sweep=made-up resumed trials=9"
    assert "0005    interrupted" in shown(sweep)


def test_the_status_counts_and_estimates() -> None:
    sweep = history(
        *[asked(n) for n in "abc"],
        started("a", 100.0),
        started("b", 100.0),
        reported("a", 9, 0.5),
        told("a", "complete", 110.0),
    )
    # One of six is done after ten seconds; b has not reported yet.
    assert eta(sweep, 110.0) == pytest.approx(50.0)
    assert status_line(sweep, 110.0) == ("status finished=1/6 running=1 best=0.5 elapsed=0:00:10 eta=0:00:50")
    for epoch in (1, 2, 3):
        sweep.apply(reported("b", epoch, 0.6))
    assert eta(sweep, 110.0) == pytest.approx(10.0 * (6 - 4 / 3) / (4 / 3))


def test_a_trial_that_lasts_longer_than_most_is_taken_to_train_to_its_end() -> None:
    short = [(asked(n), started(n, 100.0), reported(n, 1, 0.5), told(n, "stopped", 110.0)) for n in "abcde"]
    sweep = history(*(event for events in short for event in events))
    for event in (asked("f"), started("f", 100.0), reported("f", 4, 0.1)):
        sweep.apply(event)
    # Nine epochs were trained in ten seconds, and five are left.
    assert eta(sweep, 110.0) == pytest.approx(10.0 * 5 / 9)


def test_there_is_no_estimate_before_there_is_a_pace_nor_after_the_end() -> None:
    assert eta(history(), 101.0) is None
    assert "eta=?" in status_line(history(asked("a"), started("a")), 103.0)
    sweep = mixed()
    sweep.apply({"event": "sweep_ended", "time": 120.0, "outcome": "interrupted", "reason": "SIGINT"})
    assert "eta" not in status_line(sweep, 120.0)


def test_interrupted_trials_do_not_count_as_finished() -> None:
    sweep = history(asked("a"), started("a"), paused("a"))
    assert "finished=0/6" in status_line(sweep, 120.0)


def test_the_table_shows_who_runs_the_best_and_the_latest() -> None:
    text = shown(mixed())
    assert "made-up" in text and "finished=5/6" in text
    for line in ("0005    running", "0000    complete", "0003    failed", "lr=0.6 width=4"):
        assert line in text


def test_the_table_of_hundreds_of_trials_fits_a_screen() -> None:
    events: list[dict[str, Any]] = []
    for number in range(200):
        name = f"{number:04d}"
        events += [asked(name), started(name), reported(name, 1, 1.0 - number / 1000)]
        if number < 150:
            events.append(told(name, "stopped", 110.0 + number))
    text = shown(history(*events))
    assert len(text.splitlines()) <= 30
    assert "38 more running" in text
    # The best ended trial is also the latest one.
    assert "0149" in text and "0145" in text and "0100" not in text


def test_plain_lines_show_events_at_once_and_the_status_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.5, 10.5, 12.0, 13.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    lines = PlainLines(mixed(), stream)
    lines.event(started("0000"))
    lines.tick()
    assert stream.getvalue().count("\n") == 1
    lines.tick()
    lines.tick()
    assert stream.getvalue().count("status finished=") == 1


def test_a_live_table_is_drawn_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    live = LiveTable(mixed(), console)
    live.tick()
    live.close()
    assert "0005" in console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above


class Broken:
    def event(self, event: Mapping[str, Any]) -> None:
        raise ValueError("display broke")

    def tick(self) -> None:
        raise ValueError("display broke")

    def close(self) -> None:
        raise ValueError("display broke")


@pytest.mark.parametrize("call", ["event", "tick", "close"])
def test_a_display_that_fails_is_dropped_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], call: str
) -> None:
    stream = io.StringIO()
    displays = Displays([Broken(), PlainLines(mixed(), stream)])
    if call == "event":
        displays.event(started("0000"))
        assert "started" in stream.getvalue()
    elif call == "tick":
        displays.tick()
    displays.close()
    assert "status" in stream.getvalue()
    assert capsys.readouterr().err.count("Broken failed and is off: ValueError('display broke')") == 1


def test_short_names_are_the_shortest_that_differ() -> None:
    assert short_names(["optimizer.lr", "task.width"]) == {"optimizer.lr": "lr", "task.width": "width"}
    assert short_names(["a.lr", "b.lr", "b.colr"]) == {"a.lr": "a.lr", "b.lr": "b.lr", "b.colr": "colr"}
    assert short_names(["x", "a.x"]) == {"x": "x", "a.x": "a.x"}
