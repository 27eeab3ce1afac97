import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from ristune.errors import InputError
from ristune.evaluate import print_whole, render
from ristune.page import cell_text, require_matplotlib, write

pytest.importorskip("matplotlib")


def draw(axes):
    axes.plot([1, 2], [3, 4])


def test_a_page_needs_nothing_else_and_shows_every_table_and_figure(tmp_path):
    tables = {
        "first <table>": [
            {"name": "a & b", "value": 1.23456, "count": 3},
            {"name": "c", "value": 2.0, "count": 4},
        ]
    }
    page = write(tmp_path / "new", "title <x>", ["python -m it 'a b'"], tables, {"A figure: this": draw})
    text = page.read_text()
    assert page.name == "report.html" and "title &lt;x&gt;" in text and "first &lt;table&gt;" in text
    assert "<td>a &amp; b</td><td>1.235</td><td>3</td>" in text
    assert (tmp_path / "new" / "a-figure-this.png").read_bytes()[:4] == b"\x89PNG"
    assert not re.search(r"(src|href)=.(?!data:)", text), "a link leaves the page"


def test_a_table_without_rows_says_so(tmp_path):
    assert "<p>no rows</p>" in write(tmp_path, "title", [], {"empty": []}, {}).read_text()


def test_what_there_is_none_of_is_a_dash():
    assert [cell_text(value) for value in (float("nan"), 0.5, 7, "x")] == ["-", "0.500", "7", "x"]


def test_pictures_without_matplotlib_are_refused_before_any_work(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(
        InputError, match=r"--report: got 'x'; matplotlib is required .*pip install 'ristune\[plot\]'"
    ):
        require_matplotlib("--report", Path("x"))


def test_a_table_that_is_wider_than_the_terminal_is_printed_whole():
    row = {"estimator": "maximum likelihood, exchanged"} | {
        f"snr {n}, k 1": f"{n} (+0.000)" for n in range(9)
    }
    console = Console(file=io.StringIO(), width=80)
    print_whole(console, render([row]))
    text = console.file.getvalue()
    assert all(word in text for entry in row.items() for word in entry)
    assert "\u2026" not in text
