"""What an evaluation shows as files: one HTML page that needs nothing else, and its pictures beside it."""

import base64
import html
import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ristune.errors import InputError

PAGE = "report.html"
INCHES = (8.0, 5.0)
STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
section { margin: 2rem 0; overflow-x: auto } h2 { font-size: 1.05rem } img { max-width: 100% }
@media print { section { break-inside: avoid } }"""

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
Figures = Mapping[str, Callable[[Any], None]]


def cell_text(value: Any) -> str:
    """What a cell of a table shows; a number that there is not is a dash."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def require_matplotlib(option: str, path: Path) -> None:
    """Say at once that pictures cannot be drawn, before any work.

    Args:
        option: that asks for them.
        path: where they are to be written.

    Raises:
        InputError: if matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        remedy = "pip install 'ristune[plot]'"
        raise InputError(option, str(path), f"matplotlib is required ({error})", remedy) from error


def write(directory: Path, title: str, notes: Sequence[str], tables: Tables, figures: Figures) -> Path:
    """Write `report.html`, with the pictures inside, and each picture as a PNG file beside it.

    Args:
        directory: made if need be.
        title: of the page.
        notes: lines under the title: what was measured, on what, by which command.
        tables: rows by title.
        figures: functions that draw on matplotlib axes, by title.

    Returns:
        The page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(note)}</p>" for note in notes)]
    for name, draw in figures.items():
        path = directory / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.png"
        _draw(path, draw)
        image = base64.b64encode(path.read_bytes()).decode()
        alt = html.escape(name, quote=True)
        parts.append(_section(name, f'<img alt="{alt}" src="data:image/png;base64,{image}">'))
    parts += [_section(name, _table(rows)) for name, rows in tables.items()]
    page = directory / PAGE
    page.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>\n{STYLE}\n</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    return page


def _section(name: str, content: str) -> str:
    return f"<section><h2>{html.escape(name)}</h2>{content}</section>"


def _draw(path: Path, draw: Callable[[Any], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(INCHES, layout="constrained")
    FigureCanvasAgg(picture)
    draw(picture.add_subplot())
    picture.savefig(path, dpi=120)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>no rows</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell_text(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
