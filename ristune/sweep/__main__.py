"""`python -m ristune.sweep`: the search itself, or a word for what is asked of sweeps."""

import importlib
import sys
from collections.abc import Sequence

from ristune.dispatch import Command, dispatch

PURPOSE = "Ask about sweeps, those that run and those that have ended."

COMMANDS = {
    "status": Command("ristune.sweep.status", "how a sweep stands, while it runs and after"),
    "list": Command("ristune.sweep.listing", "every sweep of a folder, a line each"),
    "best": Command("ristune.sweep.best", "the best trials, and any trial as YAML to train it again"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch on the first word; without one it is the search that is asked for."""
    words = sys.argv[1:] if argv is None else argv
    # An override has an equals sign, an option begins with a dash.
    if words and "=" not in words[0] and not words[0].startswith("-"):
        return dispatch("python -m ristune.sweep", PURPOSE, COMMANDS, words)
    # The search loads torch, which takes seconds; no word does.
    status: int = importlib.import_module("ristune.sweep.command").main(words)
    return status


if __name__ == "__main__":
    sys.exit(main())
