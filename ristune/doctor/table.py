"""The rows that the doctor prints, and their count."""

import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from ristune.doctor.outcome import Outcome, Verdict

# Characters of a row before its text, beside the name.
MARGIN = 17


class Table:
    """Rows as they come.

    Args:
        console: where they are printed.
        names: of all checks, which set the width.
    """

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._console = console
        self._width = max(map(len, names))
        self._counts = dict.fromkeys(Verdict, 0)
        self._began = time.monotonic()

    def row(self, name: str, outcome: Outcome, seconds: float) -> None:
        """Print what a check found, and below it what to do.

        Args:
            name: of the check.
            outcome: what it found.
            seconds: what it took.
        """
        self._counts[outcome.verdict] += 1
        self._console.print(f"{outcome.verdict}  {name:{self._width}}  {seconds:5.1f} s  {outcome.why}")
        if outcome.remedy:
            self._console.print(f"{'':{self._width + MARGIN}}-> {outcome.remedy}")

    def end(self) -> Mapping[Verdict, int]:
        """Print how many rows there were of each kind; warnings only where there are any."""
        counts = {kind: count for kind, count in self._counts.items() if count or kind is not Verdict.WARN}
        counted = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        self._console.print(f"{counted}; {time.monotonic() - self._began:.0f} s")
        return self._counts
