import re
from pathlib import Path

import pytest

from ristune.errors import InputError
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
