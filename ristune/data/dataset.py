"""A dataset as it is read: its manifest, and splits and tables in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.cache import NodeCache, Resident
from ristune.data.columns import Column
from ristune.data.foreign.files import Foreign, decode_foreign
from ristune.data.foreign.opening import is_foreign, read_foreign
from ristune.data.kept import Unit
from ristune.data.layout import Layout, Rows, is_wide, layout, view
from ristune.data.manifest import MANIFEST, PIN, UNFINISHED, Manifest, Shard, check_pin, parse
from ristune.data.reading import GroupReader
from ristune.data.scatter import READERS, Sink, scatter_shards
from ristune.data.shards import decode
from ristune.data.threads import Daemons
from ristune.errors import InputError
from ristune.storage.access import Storage, open_storage


def open_dataset(uri: str, cache: NodeCache | None = None) -> "Dataset":
    """Open a dataset by its manifest; no shard is read yet.

    Args:
        uri: where the dataset is: a plain path, `file://`, `s3://` or `gs://`.
        cache: where this node keeps what is decoded; without one every process decodes for itself.

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
            manifest, hint = read_foreign(storage)
            return Dataset(storage, manifest, cache, hint)
        rule = f"a dataset is a directory that holds {MANIFEST}"
        raise InputError("data.uri", storage.uri, rule, "correct the path, or write a dataset there")
    manifest = parse(storage.read(MANIFEST), storage.uri)
    check_pin(manifest, storage.read(PIN), storage.uri)
    return Dataset(storage, manifest, cache)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset that is written and never changes.

    Attributes:
        storage: where it is.
        manifest: what it says of itself.
        cache: where this node keeps what is decoded.
        hint: what a user should know of it, for commands to print; empty for a dataset of ristune's format.
    """

    storage: Storage
    manifest: Manifest
    cache: NodeCache | None = None
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

    @property
    def layout(self) -> Layout:
        """How its samples lie in memory."""
        return layout(self.manifest.columns)

    @property
    def decoded_bytes(self) -> int:
        """What all of it takes in memory."""
        units = [self._unit(split, part.shards) for split, part in self.manifest.splits.items()]
        tables = [Unit(name, layout(table.columns), (table,)) for name, table in self.manifest.tables.items()]
        return sum(unit.size for unit in [*units, *tables])

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

    def limited(self, split: str, limit: int | None) -> int:
        """The number of samples in a split, or `limit` if it is given.

        Raises:
            InputError: there is no such split, or it has fewer samples.
        """
        rows = self.rows(split)
        if limit is None:
            return rows
        if not 1 <= limit <= rows:
            rule = f"split {split!r} has {rows} samples, so it is 1 to {rows}"
            raise InputError(f"data.{split}_limit", limit, rule, "lower it, or write a larger dataset")
        return limit

    def split(
        self, name: str, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> dict[str, Tensor]:
        """Columns of a split in memory.

        Args:
            name: `train`, `val` or `test`.
            columns: the columns to read; all where they are not given.
            limit: only the first so many samples, an unbiased choice since rows lie in random order.

        Returns:
            One tensor [rows, *shape] for each column, of its dtype, on the CPU; never to be written to. Each
            row is contiguous; the rows of a wide column need not touch.

        Raises:
            InputError: there is no such split or column, the split has fewer samples than `limit`, or a
                shard is missing, truncated or altered.
        """
        rows = self.limited(name, limit)
        every = [column.name for column in self.manifest.columns]
        wanted = [self.column(column) for column in (every if columns is None else columns)]
        if self.cache is None:
            return self._read(name, wanted, rows)
        return _tensors(self.resident(name, rows), self.layout, wanted, rows)

    def resident(self, split: str, rows: int) -> Resident:
        """The first samples of a split as rows of `layout`: the node's copy, or without a cache an own one.

        Raises:
            InputError: a shard is missing, truncated or altered, or there is no room.
        """
        part = self.manifest.splits[split]
        shards, covered = 0, 0
        while covered < rows:
            covered += part.shards[shards].rows
            shards += 1
        return self._resident(self._unit(split, part.shards), shards)

    def table(self, name: str) -> dict[str, Tensor]:
        """A side table in memory.

        Args:
            name: the name of the table.

        Returns:
            One tensor [rows, *shape] for each of its columns, of its dtype, on the CPU; never to be written
            to.

        Raises:
            InputError: there is no such table, or its file is missing, truncated or altered.
        """
        if name not in self.manifest.tables:
            known = ", ".join(self.manifest.tables) or "none"
            raise InputError(f"{self.uri}: table", name, f"the tables are {known}", "correct the name")
        table = self.manifest.tables[name]
        unit = Unit(f"table-{name}", layout(table.columns), (table,))
        return _tensors(self._resident(unit, 1), unit.layout, table.columns, table.rows)

    def decode(
        self, data: bytes | memoryview, shard: Shard, columns: Sequence[Column]
    ) -> dict[str, NDArray[Any]]:
        """Read columns of a shard or table; see `shards.decode`.

        Raises:
            InputError: the file is truncated or altered, or, where it is foreign, a value is refused.
        """
        read = decode_foreign if isinstance(shard, Foreign) else decode
        return read(data, shard, columns, self.uri)

    def _unit(self, split: str, shards: Sequence[Shard]) -> Unit:
        return Unit(split, self.layout, tuple(shards))

    def _resident(self, unit: Unit, shards: int) -> Resident:
        starts = np.cumsum([0, *(shard.rows for shard in unit.shards)]).tolist()

        def fill(missing: Sequence[int], sink: Sink, finished: Callable[[int], None]) -> None:
            wanted = [(unit.shards[index], starts[index]) for index in missing]
            for index, _ in zip(
                missing, scatter_shards(self.storage, wanted, unit.layout, sink), strict=True
            ):
                finished(index)

        if self.cache is not None:
            return self.cache.attach(self.dataset_id, self.uri, unit, shards, fill)
        own = OwnMemory(np.empty((starts[shards], unit.layout.width), np.uint8))
        fill(range(shards), own, lambda index: None)
        return Resident(own.rows)

    def _read(self, split: str, columns: Sequence[Column], rows: int) -> dict[str, Tensor]:
        """Columns by byte range, nothing else of the split."""
        found = {column.name: np.empty((rows, *column.shape), column.dtype) for column in columns}
        reader = GroupReader(self.storage)

        def read(shard: Shard, number: int, first: int) -> None:
            for name, values in reader.read(shard, number, columns).items():
                found[name][first : first + len(values)] = values[: rows - first]

        groups = list(self.groups(split))
        starts = np.cumsum([0, *(shard.row_groups[number].rows for shard, number in groups)]).tolist()
        with Daemons(READERS, "ristune-columns") as pool:
            wanted = [(*group, start) for group, start in zip(groups, starts, strict=False) if start < rows]
            done = [pool.submit(read, *group) for group in wanted]
            try:
                for each in done:
                    each.result()
            finally:
                pool.shutdown(cancel_futures=True)
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def groups(self, split: str) -> Iterator[tuple[Shard, int]]:
        """The row groups of a split in order: the shard of each, and its number in it."""
        for shard in self.manifest.splits[split].shards:
            for number in range(len(shard.row_groups)):
                yield shard, number


@dataclass(frozen=True)
class OwnMemory:
    """Rows that go into the memory of this process alone.

    Attributes:
        rows: [n, width], uint8.
    """

    rows: Rows

    def room(self, first: int, count: int) -> Rows:
        """Their place itself; see `Sink.room`."""
        return self.rows[first : first + count]

    def put(self, first: int, rows: Rows) -> None:
        """Nothing: they are there; see `Sink.put`."""


def _tensors(found: Resident, of: Layout, columns: Sequence[Column], rows: int) -> dict[str, Tensor]:
    tensors = {}
    for column in columns:
        values = view(found.rows[:rows], *of.places[column.name])
        # Wide columns stay in the pages that all processes share; a copy of a narrow one is read much faster.
        tensors[column.name] = torch.from_numpy(values if is_wide(column) else np.ascontiguousarray(values))
    return tensors
