"""What is to be written, and whether a directory is free for it or holds a part of it already."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ristune.data.columns import Column, check_table_name, id_column
from ristune.data.document import canonical_json, parse_json
from ristune.data.manifest import (
    MANIFEST,
    PIN,
    SCHEMA_VERSION,
    SPLITS,
    UNFINISHED,
    Generator,
    Manifest,
    Split,
    parse,
)
from ristune.data.shards import encode
from ristune.data.writing.claim import marked_plan, take
from ristune.data.writing.source import Part, Source, as_columns, as_count
from ristune.errors import InputError
from ristune.storage.access import Storage

# There beside `UNFINISHED`: a record of every shard that is finished, so that it is not written again.
RECORDS = "unfinished.d"


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


# What a key that is missing has: None is a value.
_NOTHING = _Nothing()


@dataclass(frozen=True)
class Plan:
    """All that decides the bytes of a dataset.

    Attributes:
        columns: the columns of a sample.
        generator: what makes the samples.
        parts: every shard of every split, in order.
    """

    columns: tuple[Column, ...]
    generator: Generator
    parts: tuple[Part, ...]

    @property
    def value(self) -> Any:
        """It as a JSON value, which the file `UNFINISHED` holds."""
        # Every release of pyarrow writes its name, and so other bytes, into a file.
        writer = {"schema_version": SCHEMA_VERSION, "pyarrow": pa.__version__}
        return plain({**asdict(self), "writer": writer})


def make_plan(source: Source) -> Plan:
    """The plan of a source, checked.

    Raises:
        InputError: name, version, columns, tables, parameters, seed or parts are refused.
    """
    owner = f"generator {source.name!r}"
    for field, text in (("name", source.name), ("version", source.version)):
        if not isinstance(text, str):
            raise InputError(f"{owner}: {field}", text, "a text is required", "put it in quotes")
    parameters = _check_parameters(owner, source.parameters())
    columns = as_columns(source.columns, owner)
    id_column(columns, owner)
    for name, (declared, _) in source.tables().items():
        check_table_name(name, owner)
        as_columns(declared, f"{owner}: table {name!r}")
    generator = Generator(source.name, source.version, parameters, as_count(source.seed, "seed", "a seed"))
    # What the finished manifest would be refused for is refused before anything is drawn.
    zeros = {column.name: np.zeros((1, *column.shape), column.dtype) for column in columns}
    _, shard = encode(f"{SPLITS[0]}/00000.parquet", columns, zeros)
    parse(Manifest(columns, {}, generator, {SPLITS[0]: Split((shard,), 1)}, {}).encode(), owner)
    return Plan(columns, generator, tuple(source.parts()))


def record_path(part: Part) -> str:
    """Where the record of a shard lies, relative to the dataset."""
    return f"{RECORDS}/{part.split}/{part.index:05d}.json"


def survey(storage: Storage, plan: Plan) -> tuple[Part, ...]:
    """Look whether a plan may be written to a place; nothing there is changed.

    Args:
        storage: the place.
        plan: what is to be written.

    Returns:
        The parts that an interrupted call has finished and recorded there, in order.

    Raises:
        InputError: the place holds a dataset, finished shards of another plan, or what no writer left.
    """
    names = storage.list("")
    stored = marked_plan(storage) if UNFINISHED in names else None
    same = stored == plan.value
    # Both are there when a writer was killed in its last step, which is then done again.
    if MANIFEST in names and not same:
        remedy = "choose another directory, or delete this one first"
        raise InputError("uri", storage.uri, "there is a dataset already, and datasets never change", remedy)
    if names and UNFINISHED not in names:
        rule = f"a new or empty directory is required, this one holds {names[0]!r}"
        raise InputError("uri", storage.uri, rule, "choose another directory")
    recorded = {
        f"{RECORDS}/{split}/{name}" for split in SPLITS for name in storage.list(f"{RECORDS}/{split}")
    }
    if recorded and not same:
        difference = _plan_difference(plan.value, stored)
        rule = f"{len(recorded)} shards of a dataset of other values are there, unfinished ({difference})"
        remedy = "finish it with the same values, delete the directory, or choose another one"
        raise InputError("uri", storage.uri, rule, remedy)
    return tuple(part for part in plan.parts if record_path(part) in recorded)


def begin(storage: Storage, plan: Plan) -> str:
    """Make a place ready for a plan of which nothing is finished, and mark it; the writer's token."""
    for name in (*SPLITS, "tables", PIN, RECORDS):
        storage.remove_tree(name)
    # Last: a place that is marked with this plan holds nothing of another one.
    return take(storage, plan.value)


def first_difference(wanted: Any, stored: Any) -> str:
    """The first place where two values differ as JSON, in words; empty where they are equal.

    Args:
        wanted: what is asked for.
        stored: what was read.
    """
    return _difference(plain(wanted), plain(stored), "")


def plain(value: Any) -> Any:
    """A value as JSON gives it back: lists for tuples, texts for keys, which stay in their order."""
    parse_json(canonical_json(value), "value")
    return json.loads(json.dumps(value))


def _difference(wanted: Any, stored: Any, path: str) -> str:
    if isinstance(wanted, dict) and isinstance(stored, dict):
        for key in [*wanted, *(k for k in stored if k not in wanted)]:
            below = f"{path}.{key}" if path else key
            found = _difference(wanted.get(key, _NOTHING), stored.get(key, _NOTHING), below)
            if found:
                return found
        return ""
    return "" if _same(wanted, stored) else f"{path}: {stored!r} there, {wanted!r} asked"


def _same(wanted: Any, stored: Any) -> bool:
    if isinstance(wanted, list) and isinstance(stored, list):
        return len(wanted) == len(stored) and not any(
            _difference(one, other, "") for one, other in zip(wanted, stored, strict=True)
        )
    # Python takes true for 1.
    return isinstance(wanted, bool) == isinstance(stored, bool) and bool(wanted == stored)


def _plan_difference(wanted: Any, stored: Any) -> str:
    for name in ("generator", "columns", "writer"):
        found = _difference(wanted[name], stored.get(name, _NOTHING), name)
        if found:
            return found
    return "sizes or shards"


def _check_parameters(owner: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(parameters)
    try:
        return dict(plain(values))
    except (TypeError, ValueError) as error:
        rule = f"parameters are a JSON object ({error})"
        raise InputError(
            f"{owner}: parameters", values, rule, "use plain numbers, texts and lists"
        ) from error
