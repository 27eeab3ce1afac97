"""A dataset as it is read: its manifest, and whole splits and tables in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.columns import Column
from ristune.data.foreign import ForeignShard, ForeignTable, decode_foreign, is_foreign, read_foreign
from ristune.data.manifest import MANIFEST, PIN, UNFINISHED, Manifest, Shard, check_pin, parse
from ristune.data.shards import decode
from ristune.data.storage import Storage, open_storage
from ristune.errors import InputError

# Training, validation and the labels that a task reads when it is shown the dataset.
CACHED_SPLITS = 3
CACHED_TABLES = 16


def open_dataset(uri: str) -> "Dataset":
    """Open a dataset by its manifest; no shard is read yet.

    Args:
        uri: the directory of the dataset, a plain path or `file://`.

    Raises:
        InputError: there is no finished dataset, or its manifest is refused or not the one that is pinned.
    """
    storage = open_storage(uri, "data.uri")
    if not storage.exists(MANIFEST):
        if storage.exists(UNFINISHED):
            rule = "the dataset was never finished: writing it was interrupted or is still going on"
            raise InputError("data.uri", storage.uri, rule, "write it again to the same place, or delete it")
        if storage.exists(PIN):
            rule = f"{PIN} is there, so {MANIFEST} was lost"
            raise InputError("data.uri", storage.uri, rule, "copy the dataset again")
        if is_foreign(storage):
            return Dataset(storage, *read_foreign(storage))
        rule = f"a dataset is a directory that holds {MANIFEST}"
        raise InputError("data.uri", storage.uri, rule, "correct the path, or write a dataset there")
    manifest = parse(storage.read(MANIFEST), storage.uri)
    check_pin(manifest, storage.read(PIN), storage.uri)
    return Dataset(storage, manifest)


@lru_cache(maxsize=CACHED_SPLITS)
def load_split(dataset: "Dataset", split: str, columns: tuple[str, ...], shards: int) -> dict[str, Tensor]:
    """Read the first shards of a split into memory, once for each process.

    Args:
        dataset: the dataset; two of the same place and identity are the same.
        split: the name of a split it has.
        columns: the names of columns it has.
        shards: how many shards.

    Returns:
        One tensor [rows, *shape] for each column, of its dtype, on the CPU; shared, never to be written to.

    Raises:
        InputError: a shard is missing, truncated or altered.
    """
    wanted = [dataset.column(name) for name in columns]
    parts = dataset.manifest.splits[split].shards[:shards]
    rows = sum(part.rows for part in parts)
    tensors: dict[str, Tensor] = {}
    first = 0
    for part in parts:
        arrays = dataset.decode(dataset.storage.read(part.path), part, wanted)
        for name, array in arrays.items():
            piece = torch.from_numpy(array)
            if name not in tensors:
                tensors[name] = torch.empty((rows, *piece.shape[1:]), dtype=piece.dtype)
            tensors[name][first : first + part.rows] = piece
        first += part.rows
    return tensors


@lru_cache(maxsize=CACHED_TABLES)
def load_table(dataset: "Dataset", name: str) -> dict[str, Tensor]:
    """Read a side table into memory, once for each process; see `Dataset.table`."""
    table = dataset.manifest.tables[name]
    arrays = dataset.decode(dataset.storage.read(table.path), table, table.columns)
    return {column: torch.from_numpy(array) for column, array in arrays.items()}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset that is written and never changes.

    Attributes:
        storage: where it is.
        manifest: what it says of itself.
        hint: what a user should know of it, for commands to print; empty for a dataset of ristune's format.
    """

    storage: Storage
    manifest: Manifest
    hint: str = ""

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.storage.uri

    @property
    def dataset_id(self) -> str:
        """Its identity."""
        return self.manifest.dataset_id

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What its generator drew it from."""
        return self.manifest.generator.parameters

    def __eq__(self, other: object) -> bool:
        """Whether it is the same place with the same content."""
        if not isinstance(other, Dataset):
            return NotImplemented
        return (self.uri, self.dataset_id) == (other.uri, other.dataset_id)

    def __hash__(self) -> int:
        """Of place and identity."""
        return hash((self.uri, self.dataset_id))

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            InputError: there is none.
        """
        for column in self.manifest.columns:
            if column.name == name:
                return column
        known = ", ".join(column.name for column in self.manifest.columns)
        raise InputError(f"{self.uri}: column", name, f"the columns are {known}", "correct the name")

    def rows(self, split: str) -> int:
        """The number of samples in a split.

        Raises:
            InputError: there is no such split.
        """
        if split not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise InputError(
                f"{self.uri}: split", split, f"the splits are {known}", "write a dataset that has it"
            )
        return self.manifest.splits[split].rows

    def split(
        self, name: str, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> dict[str, Tensor]:
        """A split in memory, decoded once for each process.

        Args:
            name: `train`, `val` or `test`.
            columns: the columns to read; all where they are not given.
            limit: only the first so many samples, an unbiased choice since rows lie in random order.

        Returns:
            One tensor [rows, *shape] for each column, of its dtype, on the CPU; shared, never to be written
            to.

        Raises:
            InputError: there is no such split or column, the split has fewer samples than `limit`, or a
                shard is missing, truncated or altered.
        """
        rows = self._limited(name, limit)
        names = tuple(column.name for column in self.manifest.columns) if columns is None else tuple(columns)
        for column in names:
            self.column(column)
        shards, covered = 0, 0
        while covered < rows:
            covered += self.manifest.splits[name].shards[shards].rows
            shards += 1
        tensors = load_split(self, name, names, shards)
        return {column: tensor[:rows] for column, tensor in tensors.items()}

    def table(self, name: str) -> dict[str, Tensor]:
        """A side table in memory, decoded once for each process.

        Args:
            name: the name of the table.

        Returns:
            One tensor [rows, *shape] for each of its columns, of its dtype, on the CPU; shared, never to be
            written to.

        Raises:
            InputError: there is no such table, or its file is missing, truncated or altered.
        """
        if name not in self.manifest.tables:
            known = ", ".join(self.manifest.tables) or "none"
            raise InputError(f"{self.uri}: table", name, f"the tables are {known}", "correct the name")
        return dict(load_table(self, name))

    def decode(
        self, data: bytes | memoryview, shard: Shard, columns: Sequence[Column]
    ) -> dict[str, NDArray[Any]]:
        """Read columns of a shard or table; see `shards.decode`.

        Raises:
            InputError: the file is truncated or altered, or, where it is foreign, a value is refused.
        """
        read = decode_foreign if isinstance(shard, (ForeignShard, ForeignTable)) else decode
        return read(data, shard, columns, self.uri)

    def _limited(self, split: str, limit: int | None) -> int:
        rows = self.rows(split)
        if limit is None:
            return rows
        if not 1 <= limit <= rows:
            rule = f"split {split!r} has {rows} samples, so it is 1 to {rows}"
            raise InputError(f"data.{split}_limit", limit, rule, "lower it, or write a larger dataset")
        return limit
