"""Imports go down only: who may import what, read from the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ristune"

# What each room may import of ristune beside itself and `errors`, the floor that all stand on.
ROOMS = {
    "training": set(),
    "storage": set(),
    "data": {"storage"},
    "nearfield": set(),
    "tracking": set(),
    "overrides": set(),
    "sweep_config": set(),
    "sections": set(),
    "config": {"data", "overrides", "sections", "sweep_config", "training", "tracking"},
    "trial": {"config", "data", "training"},
    "cli": {"config", "dispatch"},
    "meter": set(),
    "stopping": set(),
    "preemption": set(),
    "scratch": set(),
    "parallel": {"scratch"},
    "simulate": {"cli", "config", "data", "meter", "overrides", "parallel", "storage"},
    "train": {"cli", "config", "overrides", "simulate", "stopping", "tracking", "training", "trial"},
    "page": set(),
    "cells": {"config", "data", "training"},
    "evaluate": {"cells", "cli", "config", "data", "overrides", "page", "training", "trial"},
    "doctor": {
        *("cli", "cluster", "config", "data", "simulate", "storage", "sweep", "train", "training", "trial"),
    },
    "dataset": {
        *("cli", "config", "data", "dispatch", "meter", "overrides", "page", "storage", "training", "trial"),
    },
    "sweep": {
        *("cli", "cluster", "config", "dispatch", "overrides", "parallel", "preemption", "simulate"),
        *("storage", "sweep_config", "tracking", "training", "trial"),
    },
    "cluster": {"cli", "config", "data", "parallel", "preemption", "storage"},
    "errors": set(),
    "dispatch": set(),
    "__main__": {"dispatch"},
    "__init__": set(),
}

# Who alone may import a library: each is known in one place.
LIBRARIES = {
    "hydra": {"config"},
    "omegaconf": {"config", "sections"},
    "wandb": {"tracking"},
    "ray": {"cluster", "parallel", "sweep"},
    "optuna": {"sweep"},
    "safetensors": {"training"},
    "pyarrow": {"data", "storage", "sweep"},
    "simpleeval": {"sweep"},
    "threadpoolctl": {"data", "sweep"},
}


def room_of(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they go"
            yield node.module or ""
            if node.module == "ristune":
                yield from (f"ristune.{alias.name}" for alias in node.names)


def violations(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        room = room_of(path, package)
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "ristune" and len(parts) > 1:
                allowed = ROOMS[room] | {room, "errors", "__version__"}
                if parts[1] not in allowed:
                    found.append(f"{path.relative_to(package)} imports {name}")
            elif parts[0] in LIBRARIES and room not in LIBRARIES[parts[0]]:
                found.append(f"{path.relative_to(package)} imports {parts[0]}")
    return found


def test_imports_go_down_only():
    assert violations(PACKAGE) == []


def test_nothing_names_the_near_field_but_its_own_room():
    named = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if room_of(path, PACKAGE) != "nearfield" and "ristune.nearfield" in path.read_text()
    ]
    assert named == []


def test_every_room_is_known():
    rooms = {room_of(path, PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert rooms <= set(ROOMS)


def test_no_file_outgrows_one_question():
    sizes = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size > 300} == {}


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (
            "training/x.py",
            "from ristune.data.order import epoch_order",
            "training/x.py imports ristune.data.order",
        ),
        ("data/x.py", "import ristune.nearfield.task", "data/x.py imports ristune.nearfield.task"),
        ("nearfield/x.py", "from ristune import trial", "nearfield/x.py imports ristune.trial"),
        ("trial.py", "import ray", "trial.py imports ray"),
        ("sweep/x.py", "from hydra import compose", "sweep/x.py imports hydra"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, line, message):
    path = tmp_path / "ristune" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"def later():\n    {line}\n")
    assert violations(tmp_path / "ristune") == [message]
