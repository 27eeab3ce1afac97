"""Where the samples of a dataset come from: a source of shards, and how a simulator is one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ristune.data.columns import Column, check_columns
from ristune.data.manifest import SPLITS
from ristune.data.shards import row_bytes
from ristune.data.writing.simulator import ColumnLike, Simulator
from ristune.errors import InputError

SHARD_BYTES = 128 * 2**20
# Samples are drawn so many at a time: what a simulator needs beside them stays small, and progress is seen.
DRAWN_ROWS = 512
# Part of the random stream of every shard: a code is never used for another split.
SPLIT_CODES = {"train": 0, "val": 1, "test": 2}

# Called with a number of samples whenever so many more are there.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Part:
    """One shard that is to be written.

    Attributes:
        split: `train`, `val` or `test`.
        index: its place in the split, from 0.
        rows: its number of samples.
    """

    split: str
    index: int
    rows: int

    @property
    def path(self) -> str:
        """Where the shard lies, relative to the dataset."""
        return f"{self.split}/{self.index:05d}.parquet"


class Source(Protocol):
    """Gives the samples of a dataset shard by shard; pickled where several processes share the work."""

    @property
    def name(self) -> str:
        """What it is called in the manifest."""

    @property
    def version(self) -> str:
        """Changes whenever the same parameters and seed give other samples."""

    @property
    def seed(self) -> int:
        """The seed of the dataset, at least 0."""

    @property
    def columns(self) -> Sequence[ColumnLike]:
        """The columns of a sample; exactly one is the id."""

    def parameters(self) -> Mapping[str, Any]:
        """All that decides the samples but the seed, as a JSON object."""

    def tables(self) -> Mapping[str, tuple[Sequence[ColumnLike], Mapping[str, NDArray[Any]]]]:
        """Side tables by name: columns, and an array [rows, *shape] for each."""

    def parts(self) -> Sequence[Part]:
        """Every shard of every split, in order."""

    def arrays(self, part: Part, progress: Progress | None) -> Mapping[str, NDArray[Any]]:
        """All samples of a shard, the same ones at every call, whatever was asked for before.

        Args:
            part: one of `parts`.
            progress: called with the number of samples after every piece of the work.

        Returns:
            One array [rows, *shape] for each column, of its dtype, rows in random order.
        """


def as_columns(declared: Sequence[ColumnLike], owner: str) -> tuple[Column, ...]:
    """Declared columns as the manifest keeps them, checked.

    Args:
        declared: the columns.
        owner: what they belong to, as it is to be named in errors.

    Raises:
        InputError: the format cannot hold them.
    """
    columns = tuple(_column(each, f"{owner}: column {each.name!r}") for each in declared)
    check_columns(columns, owner)
    return columns


def as_count(value: Any, name: str, kind: str, minimum: int = 0) -> int:
    """A number of any integer type as a plain one, which JSON can hold.

    Args:
        value: the number.
        name: where it was given, as it is to be named in errors.
        kind: what it is, in words.
        minimum: the least it may be.

    Raises:
        InputError: it is no integer, or is below the minimum.
    """
    if isinstance(value, (int, np.integer)) and value >= minimum:
        return int(value)
    raise InputError(name, value, f"{kind} is an integer of at least {minimum}", "correct it")


def parts(
    sizes: Mapping[str, int], columns: Sequence[ColumnLike], shard_rows: int | None = None
) -> tuple[Part, ...]:
    """Cut splits into shards.

    Args:
        sizes: the number of samples of `train`, `val` and `test`; a split of 0 is left out.
        columns: the columns of a sample.
        shard_rows: the number of samples in a shard; by default what makes about `SHARD_BYTES`.

    Returns:
        Every shard of every split, in order; only the last of a split may be smaller.

    Raises:
        InputError: a split is unknown, a number is out of range, or there is no sample at all.
    """
    for name, rows in sizes.items():
        if name not in SPLITS:
            raise InputError("sizes", name, f"a split is one of {', '.join(SPLITS)}", "correct the name")
        as_count(rows, f"sizes.{name}", "a number of samples")
    if not any(sizes.values()):
        raise InputError("sizes", dict(sizes), "at least one sample is required", "ask for some")
    if shard_rows is None:
        shard_rows = max(1, SHARD_BYTES // row_bytes(as_columns(columns, "sample")))
    step = as_count(shard_rows, "shard_rows", "the number of samples in a shard", 1)
    return tuple(
        Part(split, index, min(step, int(sizes[split]) - first))
        for split in SPLITS
        for index, first in enumerate(range(0, sizes.get(split, 0), step))
    )


def shard_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of one shard: no other shard of any split shares it.

    Args:
        seed: the seed of the dataset.
        split: `train`, `val` or `test`.
        index: the place of the shard in its split.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(SPLIT_CODES[split], index))
    return np.random.Generator(np.random.PCG64(sequence))


@dataclass(frozen=True)
class Simulated:
    """A simulator as a source: every shard is drawn from a random stream of its own.

    Attributes:
        simulator: what draws the samples.
        sizes: the number of samples of `train`, `val` and `test`; a split of 0 is left out.
        seed: the seed of the dataset.
        shard_rows: the number of samples in a shard; by default what makes about `SHARD_BYTES`.
    """

    simulator: Simulator
    sizes: Mapping[str, int]
    seed: int
    shard_rows: int | None = None

    @property
    def name(self) -> str:
        """The simulator's name."""
        return self.simulator.name

    @property
    def version(self) -> str:
        """The simulator's version."""
        return self.simulator.version

    @property
    def columns(self) -> Sequence[ColumnLike]:
        """What the simulator draws."""
        return self.simulator.columns

    def parameters(self) -> Mapping[str, Any]:
        """The simulator's parameters."""
        return self.simulator.parameters()

    def tables(self) -> Mapping[str, tuple[Sequence[ColumnLike], Mapping[str, NDArray[Any]]]]:
        """The simulator's side tables."""
        return self.simulator.tables()

    def parts(self) -> tuple[Part, ...]:
        """Every shard of every split, in order; see `parts`."""
        return parts(self.sizes, self.columns, self.shard_rows)

    def arrays(self, part: Part, progress: Progress | None = None) -> Mapping[str, NDArray[Any]]:
        """Draw a shard on one core, one block after the other from its stream; of any number of rows.

        Raises:
            InputError: one block has other columns, types or shapes than the first, or another number of
                rows than was asked for.
        """
        rng = shard_generator(self.seed, part.split, part.index)
        arrays: dict[str, NDArray[Any]] = {}
        # Sums over several threads may round otherwise, and a shard must not depend on the number of cores.
        with threadpool_limits(1):
            for first in range(0, part.rows, DRAWN_ROWS):
                count = min(DRAWN_ROWS, part.rows - first)
                block = _check_drawn(part, self.simulator.draw(count, rng))
                if not arrays:
                    # In place: a list of blocks would be held twice while it is joined.
                    arrays = {
                        name: np.empty((part.rows, *array.shape[1:]), array.dtype)
                        for name, array in block.items()
                    }
                _check_block(part, count, block, arrays)
                for name, array in arrays.items():
                    array[first : first + count] = block[name]
                if progress is not None:
                    progress(count)
        return arrays


def _column(declared: ColumnLike, owner: str) -> Column:
    """One declared column in the plain types that JSON holds."""
    # Annotations say what is meant; a user's own class may hold anything.
    dtype: Any = declared.dtype
    shape: Any = declared.shape
    for part, text in (("name", declared.name), ("unit", declared.unit), ("role", declared.role)):
        if not isinstance(text, str):
            rule = "name, unit and role of a column are texts"
            raise InputError(f"{owner}: {part}", text, rule, "put it in quotes; a number has the unit '1'")
    if isinstance(dtype, (np.dtype, type)):
        dtype = np.dtype(dtype).str
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        rule = "the shape of one row is a sequence of integers, empty for a scalar"
        raise InputError(f"{owner}: shape", shape, rule, "write it as a list")
    sizes = tuple(as_count(size, f"{owner}: shape", "every dimension", 1) for size in shape)
    return Column(declared.name, dtype, sizes, declared.unit, declared.role)


def _check_drawn(part: Part, block: Any) -> Mapping[str, NDArray[Any]]:
    """Refuse what a simulator draws if it is no arrays by name."""
    remedy = "correct the simulator's draw"
    if not isinstance(block, Mapping):
        rule = "draw returns one array for each column, by name"
        raise InputError(f"{part.path}: draw", type(block).__name__, rule, remedy)
    for name, array in block.items():
        if not isinstance(array, np.ndarray):
            rule = "a numpy array is required, of the column's dtype"
            raise InputError(f"{part.path}: column {name!r}", type(array).__name__, rule, remedy)
    return block


def _check_block(
    part: Part, count: int, block: Mapping[str, NDArray[Any]], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Assigning to an array would silently convert and broadcast what does not fit."""
    wanted = {name: (count, *array.shape[1:], array.dtype.str) for name, array in arrays.items()}
    found = {name: (*array.shape, array.dtype.str) for name, array in block.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if found.get(name) != wanted.get(name):
            rule = f"{count} rows were asked for, shaped and typed as in the first draw: {wanted.get(name)}"
            where = f"{part.path}: column {name!r}"
            raise InputError(where, found.get(name), rule, "correct the simulator's draw")
