"""What a check of a cluster says: what it found wrong, and what it looked at."""

from dataclasses import dataclass
from enum import StrEnum

# Characters of a value that a row has room for.
SHOWN = 60


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: error if a sweep would fail or be lost by it, warning if it costs time, money or safety.
        place: in the cluster file, or the path of the configuration, or the node.
        value: what is there; None where nothing is.
        rule: what is required.
        remedy: what to do.
    """

    severity: Severity
    place: str
    value: object
    rule: str
    remedy: str

    @property
    def text(self) -> str:
        """All of it but the remedy, in a line."""
        if self.value is None:
            return f"{self.place}: not given; {self.rule}"
        shown = " ".join(str(self.value).split())
        return (
            f"{self.place}: got {shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + '...'!s}; {self.rule}"
        )


@dataclass(frozen=True)
class Judged:
    """What a check has come to.

    Attributes:
        findings: what is wrong; none if all is well.
        said: what it looked at, in figures, or why it could not look.
        known: whether it could look at all.
    """

    findings: tuple[Finding, ...]
    said: str
    known: bool = True


def judged(findings: list[Finding], said: str) -> Judged:
    """What was found, and what was looked at."""
    return Judged(tuple(findings), said)


def unknown(why: str) -> Judged:
    """Nothing could be said."""
    return Judged((), why, known=False)


def error(place: str, value: object, rule: str, remedy: str) -> Finding:
    """A sweep would fail or be lost by it."""
    return Finding(Severity.ERROR, place, value, rule, remedy)


def warning(place: str, value: object, rule: str, remedy: str) -> Finding:
    """It costs time, money or safety."""
    return Finding(Severity.WARNING, place, value, rule, remedy)
