import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def pins():
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    found = (Requirement(line) for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in found}


def test_every_dependency_is_pinned_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), requirement


def test_the_libraries_whose_behaviour_was_measured_have_their_version():
    expected = {
        "torch": "2.13.0",
        "ray": "2.60",
        "optuna": "5.",
        "hydra-core": "1.3",
        "wandb": "0.31",
        "pyarrow": "26.",
    }
    for name, version in expected.items():
        assert pins()[name].startswith(version), name


def test_pins_are_exact():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line
