"""A check by name, and how it is run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Fault, Outcome, Unavailable, attempt, failed, skipped
from ristune.errors import InputError


@dataclass(frozen=True)
class Check:
    """One question to a training.

    Attributes:
        name: as `--only` takes it.
        purpose: what holds if it passes, in a line.
        run: looks.
    """

    name: str
    purpose: str
    run: Callable[[Bench], Outcome]


def examine(check: Check, bench: Bench) -> Outcome:
    """Run a check; an exception on its way is its failure."""
    try:
        found = attempt(lambda: check.run(bench))
    except Unavailable as error:
        return skipped(str(error))
    return failed(found.text, found.remedy) if isinstance(found, Fault) else found


def choose(known: Sequence[str], only: Sequence[str]) -> list[str]:
    """The names that were asked for, in the order of the known ones; all where none was.

    Raises:
        InputError: if a name is not known.
    """
    for name in only:
        if name not in known:
            raise InputError("--only", name, f"it must be one of {', '.join(known)}", "see `--list`")
    return [name for name in known if not only or name in only]
