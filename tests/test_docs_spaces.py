"""The page on spaces: every block of YAML, every command and the script are taken as they stand."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ristune.config import compose, config_dir
from ristune.sweep.constraints import FUNCTIONS
from ristune.sweep.space_parsing import DRAWS, LEAST, parse_space

PAGE = (Path(__file__).parents[1] / "docs" / "spaces.md").read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language == kind]


COMMANDS = [line for block in blocks("") for line in block.splitlines()]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_block_of_yaml_is_a_space_of_the_near_field(text: str) -> None:
    entries = yaml.safe_load(text)
    space = parse_space(replace(compose(), space=entries))
    assert [*space.parameters] == [path for path in entries if path != "constraints"]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_gives_a_space(line: str) -> None:
    python, module, command, *overrides = shlex.split(line)
    assert (python, module, command) == ("python", "-m", "ristune.sweep")
    assert parse_space(compose(overrides)).parameters


def test_the_script_makes_a_space() -> None:
    (text,) = blocks("python")
    found: dict[str, object] = {}
    exec(text, found)
    assert list(found["space"].parameters) == ["lr", "optimizer", "momentum"]  # type: ignore[attr-defined]


def test_the_page_says_what_there_is() -> None:
    assert len(blocks("yaml")) == 4 and len(COMMANDS) == 5
    assert f"`{' '.join(sorted(FUNCTIONS))}`" in PAGE
    assert f"{LEAST} of {DRAWS} random points" in PAGE
    for path in (config_dir() / "space").glob("*.yaml"):
        assert f"`{path.stem}`" in PAGE
