"""The doctor's rows, read from what it prints."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ristune.doctor.__main__ import PURPOSES, main

ROW = re.compile(r"(pass|FAIL|skip)  ([a-z-]+) +[0-9.]+ s  (.*)")


@dataclass
class Row:
    verdict: str
    text: str
    remedy: str = ""


def doctor(
    capsys: Any, arguments: Sequence[str], only: Collection[str] = (), leave_out: Collection[str] = ()
) -> dict[str, Row]:
    """Run some checks; the exit status must be what the rows say."""
    chosen = [n for n in PURPOSES if n != "config" and (n in only if only else n not in leave_out)]
    status = main([*arguments, *(word for name in chosen for word in ("--only", name))])
    captured = capsys.readouterr()
    rows: dict[str, Row] = {}
    for line in captured.out.splitlines():
        match = ROW.fullmatch(line)
        if match:
            rows[match[2]] = Row(match[1], match[3])
        elif line.strip().startswith("-> "):
            list(rows.values())[-1].remedy = line.strip()
    assert list(rows) == chosen
    assert all(bool(row.remedy) == (row.verdict == "FAIL") for row in rows.values())
    assert status == int(any(row.verdict == "FAIL" for row in rows.values()))
    return rows
