"""Shell commands of a cluster file, as far as rules look into them."""

import re
from collections.abc import Iterator, Sequence

from ristune.cluster.cluster_file import Command


def simple_commands(text: str) -> list[str]:
    """The simple commands of a line of shell, without what joins them."""
    return [part.strip() for part in re.split(r"&&|\|\||[;|\n]", text) if part.strip()]


def ray_starts(commands: Sequence[Command]) -> list[Command]:
    """Those of some commands that start Ray."""
    return [command for command in commands if re.search(r"\bray\s+start\b", command.text)]


def sets(text: str, variable: str, value: str) -> bool:
    """Whether `ray start` has an environment variable: before it in its own command, or exported before.

    Args:
        text: a line of shell that starts Ray.
        variable: its name.
        value: what it must be.
    """
    given = re.compile(rf"(?:^|\s){variable}=[\"']?{re.escape(value)}[\"']?(?=\s|$)")
    for part in simple_commands(text):
        start = re.search(r"\bray\s+start\b", part)
        if start:
            return given.search(part[: start.start()]) is not None
        if part.startswith("export ") and given.search(part):
            return True
    return False


def matches(pattern: str, commands: Sequence[Command]) -> Iterator[tuple[Command, re.Match[str]]]:
    """Everything that a pattern finds in some commands, with the command."""
    for command in commands:
        for match in re.finditer(pattern, command.text):
            yield command, match
