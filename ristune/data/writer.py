"""Writing a dataset: shards from disjoint random streams, the manifest last."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.columns import id_column
from ristune.data.document import canonical_json
from ristune.data.manifest import (
    MANIFEST,
    PIN,
    SPLITS,
    UNFINISHED,
    Generator,
    Manifest,
    Shard,
    Split,
    Table,
    parse,
    pin,
)
from ristune.data.shards import encode
from ristune.data.source import Part, Progress, Source, as_columns
from ristune.data.statistics import Moments, moments, summarise
from ristune.data.storage import Storage, open_storage
from ristune.errors import InputError


@dataclass(frozen=True)
class WrittenShard:
    """What is kept of a shard once its samples have left memory.

    Attributes:
        part: which shard it is.
        shard: what the manifest says of it.
        ids: the ids of its rows, sorted, [rows], int64.
        moments: of every column but the id, by name.
    """

    part: Part
    shard: Shard
    ids: NDArray[np.int64]
    moments: Mapping[str, Moments]


# Runs a function of a part and a progress for every part, and gives the results as they come.
Mapper = Callable[
    [Callable[[Part, Progress | None], WrittenShard], Sequence[Part], Progress | None], Iterable[WrittenShard]
]


def serial(
    function: Callable[[Part, Progress | None], WrittenShard],
    parts: Sequence[Part],
    progress: Progress | None,
) -> Iterator[WrittenShard]:
    """The plain mapper: one part after the other, in this process."""
    for part in parts:
        yield function(part, progress)


def write_dataset(
    uri: str, source: Source, mapper: Mapper = serial, progress: Progress | None = None
) -> Manifest:
    """Write all that a source gives.

    What an interrupted call left behind is overwritten; a dataset never is.

    Args:
        uri: the directory to write to, new or empty.
        source: where the samples come from.
        mapper: what runs the work for every part, in any order.
        progress: called with the number of samples whenever so many more are there.

    Returns:
        The manifest as it is stored.

    Raises:
        InputError: the source is refused, the directory cannot be written to or holds something else, the
            source gives what it does not declare, a value is not finite, or an id occurs twice.
    """
    owner = f"generator {source.name!r}"
    parameters = _check_parameters(owner, source.parameters())
    columns = as_columns(source.columns, owner)
    id_column(columns, owner)
    if source.seed < 0:
        raise InputError("seed", source.seed, "a seed is at least 0", "choose another")
    parts = source.parts()
    storage = open_storage(uri)
    storage.ensure_writable()
    claim(storage)

    tables = {name: _write_table(storage, source, name) for name in sorted(source.tables())}
    written: dict[str, WrittenShard] = {}
    seen: dict[str, NDArray[np.int64]] = {}
    for done in mapper(partial(write_part, storage.uri, source), parts, progress):
        split = done.part.split
        _check_ids(storage, split, done.ids, seen)
        known = seen.get(split, np.empty(0, np.int64))
        seen[split] = np.sort(np.concatenate([known, done.ids]), kind="stable")
        written[done.part.path] = done

    of_split = {
        name: [written[part.path] for part in parts if part.split == name]
        for name in SPLITS
        if any(part.split == name for part in parts)
    }
    train = of_split.get("train", [])
    manifest = Manifest(
        columns=columns,
        tables=tables,
        generator=Generator(source.name, source.version, parameters, source.seed),
        splits={
            name: Split(tuple(each.shard for each in shards), sum(each.shard.rows for each in shards))
            for name, shards in of_split.items()
        },
        statistics={
            column.name: summarise(each.moments[column.name] for each in train)
            for column in columns
            if train and column.role != "id"
        },
    )
    stored = manifest.encode()
    checked = parse(stored, storage.uri)
    storage.write_atomic(PIN, pin(checked.dataset_id))
    storage.write_atomic(MANIFEST, stored)
    storage.remove_tree(UNFINISHED)
    return checked


def write_part(uri: str, source: Source, part: Part, progress: Progress | None = None) -> WrittenShard:
    """Write one shard; it depends on no other shard.

    Args:
        uri: the dataset.
        source: where the samples come from.
        part: the shard.
        progress: called with the number of samples whenever so many more are there.

    Raises:
        InputError: the source gives what it does not declare, a value is not finite, or an id repeats.
    """
    storage = open_storage(uri)
    columns = as_columns(source.columns, part.path)
    arrays = source.arrays(part, progress)
    data, shard = encode(part.path, columns, arrays)
    ids: NDArray[np.int64] = np.sort(arrays[id_column(columns, part.path).name])
    repeats = int(np.count_nonzero(ids[1:] == ids[:-1]))
    if repeats:
        raise _repeated(f"{storage.uri}: split {part.split!r}", repeats, f"within {part.path}")
    storage.write_atomic(part.path, data)
    found = {column.name: moments(arrays[column.name]) for column in columns if column.role != "id"}
    return WrittenShard(part, shard, ids, found)


def _write_table(storage: Storage, source: Source, name: str) -> Table:
    declared, arrays = source.tables()[name]
    columns = as_columns(declared, f"table {name!r}")
    data, shard = encode(f"tables/{name}.parquet", columns, arrays)
    storage.write_atomic(shard.path, data)
    return Table(shard.path, shard.rows, shard.bytes, shard.sha256, shard.row_groups, columns)


def _check_parameters(owner: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(parameters)
    try:
        canonical_json(values)
    except (TypeError, ValueError) as error:
        rule = f"parameters are a JSON object ({error})"
        raise InputError(
            f"{owner}: parameters", values, rule, "use plain numbers, texts and lists"
        ) from error
    return values


def claim(storage: Storage) -> None:
    """Make sure that nothing of value is there, then mark the directory as unfinished."""
    names = storage.list("")
    if MANIFEST in names:
        remedy = "choose another directory, or delete this one first"
        raise InputError("uri", storage.uri, "there is a dataset already, and datasets never change", remedy)
    if names and UNFINISHED not in names:
        rule = f"a new or empty directory is required, this one holds {names[0]!r}"
        raise InputError("uri", storage.uri, rule, "choose another directory")
    storage.write_atomic(UNFINISHED, b"")
    for name in (*SPLITS, "tables", PIN):
        storage.remove_tree(name)


def _check_ids(
    storage: Storage, split: str, ids: NDArray[np.int64], seen: Mapping[str, NDArray[np.int64]]
) -> None:
    for other, known in seen.items():
        repeats = int(np.count_nonzero(np.isin(ids, known)))
        if repeats:
            place = (
                f"within split {split!r}" if other == split else f"in split {split!r} and in split {other!r}"
            )
            raise _repeated(storage.uri, repeats, place)


def _repeated(name: str, count: int, place: str) -> InputError:
    rule = f"{count} ids occur twice {place}; every row has an id of its own"
    return InputError(
        name, count, rule, "draw ids from the generator that is passed in, or use a wider range"
    )
