"""What a check finds, and how an exception of somebody's code becomes a finding."""

import os
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from ristune import errors
from ristune.errors import InputError

T = TypeVar("T")
# Names that a row spells out; the others are counted.
SHOWN = 4


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "FAIL"
    WARN = "warn"
    SKIP = "skip"


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        verdict: how it ended.
        why: the figures behind it.
        remedy: what to do; empty unless it failed or warns.
    """

    verdict: Verdict
    why: str
    remedy: str = ""


def passed(why: str) -> Outcome:
    """All is well."""
    return Outcome(Verdict.PASS, why)


def failed(why: str, remedy: str) -> Outcome:
    """A fault, and what to do about it."""
    return Outcome(Verdict.FAIL, why, remedy)


def skipped(why: str) -> Outcome:
    """Nothing could be said."""
    return Outcome(Verdict.SKIP, why)


def some(names: Sequence[str]) -> str:
    """Names in words, as many as a row of the table holds."""
    return errors.some(names, SHOWN)


class Unavailable(Exception):
    """What a check needs could not be made, and another check has said why."""


@dataclass(frozen=True)
class Fault:
    """An exception in words: its type, its message and the line it came from."""

    error: Exception
    text: str
    remedy: str


def attempt(call: Callable[[], T]) -> T | Fault:
    """Call what may run anybody's code.

    The one place where an exception does not end the command: it becomes a row of the report.

    Returns:
        What `call` returns, or the fault.

    Raises:
        Unavailable: as `call`.
    """
    try:
        return call()
    except Unavailable:
        raise
    except InputError as error:
        return Fault(error, f"{error.name}: got {error.value!r}; {error.rule}", error.remedy)
    # A task may raise anything: here it becomes the row that says so, and the exit status.
    except Exception as error:
        cause = _innermost(error)
        message = " ".join(str(cause).split())
        return Fault(error, f"{type(cause).__name__}: {message} ({_source(cause)})", "correct that line")


class Once(Generic[T]):
    """Something that is made when it is first asked for; where that failed, nobody tries again.

    Args:
        name: what it is, in words.
        make: makes it.
    """

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._name = name
        self._make = make
        self._made: list[T] = []
        self._tried = False

    def __call__(self) -> T:
        """What was made.

        Raises:
            Unavailable: making it failed before.
        """
        if not self._made:
            if self._tried:
                raise Unavailable(f"it needs {self._name}, which failed: see above")
            self._tried = True
            self._made.append(self._make())
        return self._made[0]


def _innermost(error: BaseException) -> BaseException:
    """The exception that began it: hydra wraps what a constructor raises."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _source(error: BaseException) -> str:
    """The deepest line that is not a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own = [frame for frame in frames if not any(frame.filename.startswith(path) for path in libraries)]
    frame = (own or list(frames))[-1]
    path = os.path.relpath(frame.filename)
    name = frame.filename if path.startswith("..") else path
    return f"{name}:{frame.lineno}: {frame.line}"
