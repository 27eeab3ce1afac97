"""A cluster file with one mistake, and what the doctor finds in it."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ristune.doctor.__main__ import main

ROOT = Path(__file__).parents[2]
AWS, OWN_HOSTS = ROOT / "ray_cluster.yaml", ROOT / "cluster" / "on-premises.yaml"
Document = dict[str, Any]
# What a sweep on such a cluster has.
SWEEP = [
    "output=s3://my-bucket/runs",
    "sweep.concurrency=8",
    "training.device=cuda",
]
# A dataset that cannot be reached from here.
AFAR = "data.uri=s3://bucket/data?endpoint=http://127.0.0.1:9&deadline=1"


@dataclass(frozen=True)
class Row:
    verdict: str
    check: str
    text: str


def document(path: Path = AWS) -> Document:
    # Of its own in every place: what YAML's anchors share would change in several.
    return json.loads(json.dumps(yaml.safe_load(path.read_text())))


def put(*path: Any) -> Callable[[Document], None]:
    """A change: the last of a path is put where the others lead."""
    *way, key, value = path

    def change(found: Document) -> None:
        for step in way:
            found = found[step]
        found[key] = copy.deepcopy(value)

    return change


def drop(*path: Any) -> Callable[[Document], None]:
    *way, key = path

    def change(found: Document) -> None:
        for step in way:
            found = found[step]
        del found[key]

    return change


def swap(*path: Any) -> Callable[[Document], None]:
    """A change: a text is replaced in the text that a path leads to."""
    *way, key, old, new = path

    def change(found: Document) -> None:
        for step in way:
            found = found[step]
        assert old in found[key]
        found[key] = found[key].replace(old, new)

    return change


def examine(capsys: Any, path: Path, *more: str) -> tuple[int, list[Row]]:
    """The exit status of the doctor, and its rows."""
    status = main(["--cluster", str(path), *more])
    lines = capsys.readouterr().out.splitlines()
    found = [line.split(maxsplit=4) for line in lines if line.split()[0] in ("pass", "FAIL", "warn", "skip")]
    return status, [Row(verdict, check, text) for verdict, check, _, _, text in found]


def faults(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.verdict in ("FAIL", "warn")]
