"""Writing a dataset: shards from disjoint random streams, the manifest last."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.columns import Column, check_columns, id_column
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
from ristune.data.shards import encode, row_bytes
from ristune.data.simulator import ColumnLike, Simulator
from ristune.data.statistics import Moments, moments, summarise
from ristune.data.storage import Storage, open_storage
from ristune.errors import InputError

SHARD_BYTES = 128 * 2**20
# Samples are drawn so many at a time: what a simulator needs beside them stays small, and progress is seen.
DRAWN_ROWS = 512
# Part of the random stream of every shard: a code is never used for another split.
SPLIT_CODES = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class WrittenShard:
    """What is kept of a shard once its samples have left memory.

    Attributes:
        shard: what the manifest says of it.
        ids: the ids of its rows, sorted, [rows], int64.
        moments: of every column but the id, by name.
    """

    shard: Shard
    ids: NDArray[np.int64]
    moments: Mapping[str, Moments]


def write_dataset(
    uri: str,
    simulator: Simulator,
    sizes: Mapping[str, int],
    seed: int,
    shard_rows: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Simulate a dataset and write it.

    What an interrupted call left behind is overwritten; a dataset never is.

    Args:
        uri: the directory to write to, new or empty.
        simulator: what draws the samples.
        sizes: the number of samples of `train`, `val` and `test`; a split of 0 is left out.
        seed: the seed of the dataset, at least 0.
        shard_rows: the number of samples in a shard; by default what makes about `SHARD_BYTES`.
        progress: called with the number of samples after every draw.

    Returns:
        The manifest as it is stored.

    Raises:
        InputError: an argument is refused, the directory cannot be written to or holds something else, the
            simulator draws what it does not declare, a value is not finite, or an id occurs twice.
    """
    owner = f"simulator {simulator.name!r}"
    parameters = _check_parameters(owner, simulator.parameters())
    columns = _columns(simulator.columns, owner)
    id_column(columns, owner)
    rows_each = _check_shard_rows(columns, shard_rows)
    wanted = _check_sizes(sizes)
    if seed < 0:
        raise InputError("seed", seed, "a seed is at least 0", "choose another")
    storage = open_storage(uri)
    storage.ensure_writable()
    _clear_leftovers(storage)

    tables = {name: _write_table(storage, simulator, name) for name in sorted(simulator.tables())}
    written: dict[str, list[WrittenShard]] = {}
    seen: dict[str, NDArray[np.int64]] = {}
    for split, rows in wanted.items():
        written[split] = []
        for index, first in enumerate(range(0, rows, rows_each)):
            count = min(rows_each, rows - first)
            shard = write_shard(storage, simulator, seed, split, index, count, progress)
            _check_ids(storage, split, shard.ids, seen)
            known = seen.get(split, np.empty(0, np.int64))
            seen[split] = np.sort(np.concatenate([known, shard.ids]), kind="stable")
            written[split].append(shard)

    train = written.get("train", [])
    manifest = Manifest(
        columns=columns,
        tables=tables,
        generator=Generator(simulator.name, simulator.version, parameters, seed),
        splits={
            name: Split(tuple(part.shard for part in parts), wanted[name]) for name, parts in written.items()
        },
        statistics={
            column.name: summarise(part.moments[column.name] for part in train)
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


def write_shard(
    storage: Storage,
    simulator: Simulator,
    seed: int,
    split: str,
    index: int,
    rows: int,
    progress: Callable[[int], None] | None = None,
) -> WrittenShard:
    """Draw one shard and write it; it depends on no other shard.

    Args:
        storage: the dataset.
        simulator: what draws the samples.
        seed: the seed of the dataset.
        split: the split the shard is of.
        index: its place in the split.
        rows: its number of samples.
        progress: called with the number of samples after every draw.

    Raises:
        InputError: the simulator draws what it does not declare, a value is not finite, or an id repeats.
    """
    path = f"{split}/{index:05d}.parquet"
    columns = _columns(simulator.columns, path)
    arrays = _draw(simulator, rows, shard_generator(seed, split, index), progress)
    data, shard = encode(path, columns, arrays)
    ids: NDArray[np.int64] = np.sort(arrays[id_column(columns, path).name])
    repeats = int(np.count_nonzero(ids[1:] == ids[:-1]))
    if repeats:
        raise _repeated(f"{storage.uri}: split {split!r}", repeats, f"within {path}")
    storage.write_atomic(path, data)
    return WrittenShard(
        shard, ids, {column.name: moments(arrays[column.name]) for column in columns if column.role != "id"}
    )


def _draw(
    simulator: Simulator, rows: int, rng: np.random.Generator, progress: Callable[[int], None] | None
) -> dict[str, NDArray[Any]]:
    """Samples of a shard, drawn one block after the other from its own stream."""
    blocks = []
    for first in range(0, rows, DRAWN_ROWS):
        count = min(DRAWN_ROWS, rows - first)
        blocks.append(simulator.draw(count, rng))
        if progress is not None:
            progress(count)
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def shard_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of one shard: no other shard of any split shares it.

    Args:
        seed: the seed of the dataset.
        split: `train`, `val` or `test`.
        index: the place of the shard in its split.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(SPLIT_CODES[split], index))
    return np.random.Generator(np.random.PCG64(sequence))


def _write_table(storage: Storage, simulator: Simulator, name: str) -> Table:
    declared, arrays = simulator.tables()[name]
    columns = _columns(declared, f"table {name!r}")
    data, shard = encode(f"tables/{name}.parquet", columns, arrays)
    storage.write_atomic(shard.path, data)
    return Table(shard.path, shard.rows, shard.bytes, shard.sha256, shard.row_groups, columns)


def _columns(declared: Sequence[ColumnLike], owner: str) -> tuple[Column, ...]:
    """The columns a simulator declares, checked, as the manifest keeps them."""
    columns = tuple(
        Column(each.name, each.dtype, tuple(each.shape), each.unit, each.role) for each in declared
    )
    check_columns(columns, owner)
    return columns


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


def _check_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """The splits that are to be written, in their fixed order."""
    for name, rows in sizes.items():
        if name not in SPLITS:
            raise InputError("sizes", name, f"a split is one of {', '.join(SPLITS)}", "correct the name")
        if rows < 0:
            raise InputError(f"sizes.{name}", rows, "a number of samples is at least 0", "correct it")
    wanted = {name: sizes[name] for name in SPLITS if sizes.get(name)}
    if not wanted:
        raise InputError("sizes", dict(sizes), "at least one sample is required", "ask for some")
    return wanted


def _check_shard_rows(columns: Sequence[Column], shard_rows: int | None) -> int:
    if shard_rows is None:
        return max(1, SHARD_BYTES // row_bytes(columns))
    if shard_rows < 1:
        raise InputError("shard_rows", shard_rows, "a shard has at least one sample", "raise it")
    return shard_rows


def _clear_leftovers(storage: Storage) -> None:
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
