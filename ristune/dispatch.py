"""One word chooses a command: the table of commands is shown, and the module of the one chosen is loaded."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

DONE, BAD_INPUT = 0, 2


class Command(NamedTuple):
    """A command: the module whose `main(argv)` it is, and what it does in a few words."""

    module: str
    purpose: str


def dispatch(program: str, purpose: str, commands: Mapping[str, Command], argv: Sequence[str]) -> int:
    """Run the command that the first word names; nothing of the others is imported.

    Args:
        program: what is typed before the word, for messages.
        purpose: what the commands are for, for the help.
        commands: by word.
        argv: the word and its arguments.

    Returns:
        The exit status of the command; 0 for the help, 2 for a word that is none.
    """
    width = max(len(word) for word in commands)
    table = "\n".join(f"  {word:{width}}  {command.purpose}" for word, command in commands.items())
    usage = f"usage: {program} COMMAND ...\n\n{table}"
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{purpose}\n\n{usage}\n\n`{program} COMMAND --help` tells more.")
        return DONE
    if argv[0] not in commands:
        known = ", ".join(commands)
        print(f"error: command: got {argv[0]!r}; it must be one of {known}\n{usage}", file=sys.stderr)
        return BAD_INPUT
    status: int = importlib.import_module(commands[argv[0]].module).main(argv[1:])
    return status
