"""Parquet of other tools as the source of a dataset: rows are put in random order on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.columns import Column
from ristune.data.dataset import Dataset
from ristune.data.foreign.opening import UNKNOWN
from ristune.data.manifest import Generator
from ristune.data.shards import row_bytes
from ristune.data.writing.source import SPLIT_CODES, Part, Progress, parts

VERSION = "1"


class Converted:
    """The rows of a foreign dataset, shard by shard, in random order but for exports, whose order is random.

    The files are gone through once for every `memory` bytes of a split: each pass takes the rows of as many
    shards as fit.

    Attributes:
        shuffled: whether rows are put in random order.
    """

    def __init__(self, dataset: Dataset, seed: int, memory: int, shard_rows: int | None = None) -> None:
        """Plan the passes; nothing is read.

        Args:
            dataset: what to convert.
            seed: decides the order; at least 0.
            memory: bytes of samples held at a time, besides a file and a shard; one shard at least.
            shard_rows: the number of samples in a shard; by default what makes about 128 MB.
        """
        self._dataset = dataset
        self.shuffled = dataset.manifest.generator == UNKNOWN
        self._memory = memory
        self._generator = dataset.manifest.generator
        if self.shuffled:
            self._generator = Generator(UNKNOWN.name, VERSION, {"dataset_id": dataset.dataset_id}, seed)
        self._seed = seed
        self._parts = parts(
            {name: split.rows for name, split in dataset.manifest.splits.items()}, self.columns, shard_rows
        )
        self._held: tuple[Part, ...] = ()
        self._arrays: dict[str, NDArray[Any]] = {}

    @property
    def name(self) -> str:
        """What made the samples, as far as the files say."""
        return self._generator.name

    @property
    def version(self) -> str:
        """The version of what made them."""
        return self._generator.version

    @property
    def seed(self) -> int:
        """The seed of what made them; of the order where files say nothing."""
        return self._generator.seed

    @property
    def columns(self) -> Sequence[Column]:
        """The columns of the files."""
        return self._dataset.manifest.columns

    @property
    def passes(self) -> int:
        """How many times files are gone through, over all splits."""
        return len({self._group(part) for part in self._parts})

    def parameters(self) -> Mapping[str, Any]:
        """What the files say, or else which files they were."""
        return self._generator.parameters

    def tables(self) -> Mapping[str, tuple[Sequence[Column], Mapping[str, NDArray[Any]]]]:
        """The side tables."""
        return {
            name: (table.columns, {k: v.numpy() for k, v in self._dataset.table(name).items()})
            for name, table in self._dataset.manifest.tables.items()
        }

    def parts(self) -> Sequence[Part]:
        """Every shard of every split."""
        return self._parts

    def arrays(self, part: Part, progress: Progress | None) -> Mapping[str, NDArray[Any]]:
        """The samples of a shard; fast where parts are asked for in order.

        Raises:
            InputError: a file cannot be read or a value is refused.
        """
        group = self._group(part)
        if group != self._held:
            # Let go of the last group before the next is gathered.
            self._held, self._arrays = (), {}
            self._arrays = self._gather(group, progress)
            self._held = group
        first = (part.index - group[0].index) * group[0].rows
        return {name: array[first : first + part.rows] for name, array in self._arrays.items()}

    def _group(self, part: Part) -> tuple[Part, ...]:
        """The shards that are gathered in the same pass."""
        members = [each for each in self._parts if each.split == part.split]
        size = max(1, self._memory // (members[0].rows * row_bytes(self.columns)))
        first = part.index // size * size
        return tuple(members[first : first + size])

    def _gather(self, group: Sequence[Part], progress: Progress | None) -> dict[str, NDArray[Any]]:
        split = self._dataset.manifest.splits[group[0].split]
        before = group[0].index * self._parts_rows(group[0].split)
        count = sum(part.rows for part in group)
        wanted = self._order(group[0].split, split.rows)[before : before + count]
        arrays = {c.name: np.empty((count, *c.shape), c.dtype) for c in self.columns}
        first = 0
        for shard in split.shards:
            at = np.flatnonzero((wanted >= first) & (wanted < first + shard.rows))
            if at.size:
                data = self._dataset.storage.read(shard.path)
                for name, values in self._dataset.decode(data, shard, self.columns).items():
                    arrays[name][at] = values[wanted[at] - first]
            if progress is not None:
                progress(at.size)
            first += shard.rows
        return arrays

    def _parts_rows(self, split: str) -> int:
        """The rows of every shard of a split but the last."""
        return next(part.rows for part in self._parts if part.split == split)

    def _order(self, split: str, rows: int) -> NDArray[np.int64]:
        if not self.shuffled:
            return np.arange(rows, dtype=np.int64)
        sequence = np.random.SeedSequence(entropy=self._seed, spawn_key=(SPLIT_CODES[split],))
        return np.random.Generator(np.random.PCG64(sequence)).permutation(rows)
