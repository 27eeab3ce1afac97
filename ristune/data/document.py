"""A JSON document read with checks: every complaint names the place it came from."""

import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from ristune.errors import InputError

REMEDY = "write it as docs/data-format.md says; `python -m ristune.dataset verify` checks a dataset"
# No size or count is beyond it: int64.
LARGEST = 2**63 - 1
# Far above what anyone writes, far below what Python can follow by recursion.
DEEPEST = 100


def canonical_json(value: object) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, ASCII, no NaN or infinity.

    Args:
        value: anything `json` can write.

    Returns:
        The ASCII bytes, without a final newline.

    Raises:
        TypeError: a value has no JSON form.
        ValueError: a number is not finite.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def parse_json(data: bytes, name: str) -> "Node":
    """Read a JSON document.

    Args:
        data: the stored bytes.
        name: the file, as it is to be named in errors.

    Raises:
        InputError: the bytes are not JSON, hold NaN or an infinity, or are nested deeper than `DEEPEST`.
    """
    try:
        value: object = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InputError(name, _excerpt(data), f"a JSON document is required ({error})", REMEDY) from error
    if _deeper(value, DEEPEST):
        rule = f"objects and arrays are nested at most {DEEPEST} deep"
        raise InputError(name, _excerpt(data), rule, REMEDY)
    return Node(name, "", value)


def _deeper(value: object, depth: int) -> bool:
    """Whether containers of a JSON value are nested deeper than `depth`."""
    level = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is beyond the range of numbers")
    return number


def _excerpt(data: bytes) -> str:
    text = data[:40].decode("utf-8", errors="replace")
    return text if len(data) <= 40 else text + "..."


def _brief(value: object) -> object:
    """A value as an error shows it: of containers only the first keys, or the length."""
    if isinstance(value, dict):
        return [*list(value)[:8], "..."] if len(value) > 8 else list(value)
    return f"a list of {len(value)}" if isinstance(value, list) else value


@dataclass(frozen=True)
class Node:
    """One value of a JSON document, with the way to it.

    Attributes:
        document: the file, as errors name it.
        path: the way to the value, such as `splits.train.rows`; empty at the root.
        value: what `json` read.
    """

    document: str
    path: str
    value: object

    def error(self, rule: str) -> InputError:
        """The error that says this value breaks `rule`."""
        name = f"{self.document}: {self.path}" if self.path else self.document
        return InputError(name, _brief(self.value), rule, REMEDY)

    def members(self) -> dict[str, "Node"]:
        """The values of a JSON object by name.

        Raises:
            InputError: it is not an object.
        """
        if not isinstance(self.value, dict):
            raise self.error("a JSON object is required")
        prefix = f"{self.path}." if self.path else ""
        return {key: Node(self.document, f"{prefix}{key}", value) for key, value in self.value.items()}

    def fields(self, *names: str) -> Iterator["Node"]:
        """The values of a JSON object that has exactly these names, in the order asked for.

        Raises:
            InputError: it is not an object, or a name is missing or unknown.
        """
        members = self.members()
        for name in names:
            if name not in members:
                raise self.error(f"the key {name!r} is required")
        for name in members:
            if name not in names:
                raise members[name].error(f"unknown key; the keys are {', '.join(names)}")
        return (members[name] for name in names)

    def elements(self) -> list["Node"]:
        """The values of a JSON array.

        Raises:
            InputError: it is not an array.
        """
        if not isinstance(self.value, list):
            raise self.error("a JSON array is required")
        return [Node(self.document, f"{self.path}[{i}]", value) for i, value in enumerate(self.value)]

    def text(self) -> str:
        """The value as a string.

        Raises:
            InputError: it is not a string.
        """
        if not isinstance(self.value, str):
            raise self.error("a string is required")
        return self.value

    def integer(self, minimum: int = 0, maximum: int | None = LARGEST) -> int:
        """The value as an integer.

        Raises:
            InputError: it is not an integer, is below `minimum`, or above `maximum` if there is one.
        """
        # JSON's true would pass as an int: bool is a subclass of it.
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < minimum:
            raise self.error(f"an integer of at least {minimum} is required")
        if maximum is not None and self.value > maximum:
            raise self.error(f"an integer of at most {maximum} is required")
        return self.value

    def number(self) -> float:
        """The value as a number, an integer left as it is so that it is written back unchanged.

        Raises:
            InputError: it is not a number, or beyond the range of float64.
        """
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self.error("a number is required")
        if abs(self.value) > sys.float_info.max:
            raise self.error("a number that float64 can hold is required")
        return self.value
