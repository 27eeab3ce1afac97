import io

import pytest
from rich.console import Console

from ristune.meter import Meter, duration


def shown(terminal, period=0.0):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, soft_wrap=True)
    with Meter(console, "writing", 10, period) as meter:
        meter.advance(4)
        meter.advance(6)
    return console.file.getvalue()


def test_without_a_terminal_there_are_lines_and_no_bar():
    lines = shown(False).splitlines()
    assert [line.partition(" samples,")[0] for line in lines] == ["writing: 4 of 10", "writing: 10 of 10"]
    assert all("samples/s, 0 s left" in line for line in lines)
    assert shown(False, period=60.0) == ""


def test_on_a_terminal_there_is_a_bar():
    assert "10/10" in shown(True) and "samples/s" in shown(True)
    assert "of 10" not in shown(True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_a_time_is_told_in_two_units_at_most(seconds, text):
    assert duration(seconds) == text
