"""Windows of row groups in local files: nothing is copied but samples into batches."""

import errno
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from ristune.data.columns import Column
from ristune.data.dataset import Dataset
from ristune.data.foreign.files import Foreign
from ristune.data.gather import Window
from ristune.data.huge import huge_page
from ristune.data.layout import Rows, is_wide, layout, row_width, write_columns
from ristune.data.libc import MADV_POPULATE_READ, advise, map_over, reserved, resident
from ristune.data.manifest import RowGroup, Shard
from ristune.data.order import Indices, Order
from ristune.data.shards import cut, damage, damaged
from ristune.data.windows import Loads, RowReader, Submit, arrived, located
from ristune.errors import InputError
from ristune.storage.fetch import open_sized
from ristune.storage.local import LocalReader, LocalStorage

# Linux lets a process have 65530 areas of addresses; a file is one, and the gap behind it may be another.
MOST_FILES = 16_000


def window_reader(dataset: Dataset, split: str, columns: Sequence[str], size: int) -> Loads:
    """What brings windows of so many row groups into memory: by mapping where system and files allow it."""
    shards = dataset.manifest.splits[split].shards
    ours = len(shards) <= MOST_FILES and not any(isinstance(shard, Foreign) for shard in shards)
    if ours and isinstance(dataset.storage, LocalStorage) and _populates():
        try:
            return MappedReader(dataset, split, columns)
        except OSError as error:
            # Too few addresses, or a file system that cannot map: reading needs neither.
            if error.errno not in (errno.ENOMEM, errno.ENODEV):
                raise
    return RowReader(dataset, split, columns, size)


def _populates() -> bool:
    """Whether the kernel (Linux 5.14) brings pages in when asked, which a bad disk then makes an error."""
    return advise(reserved(mmap.PAGESIZE), MADV_POPULATE_READ) == 0


class FileMap:
    """The shards of a split, one after another in memory; safe for several threads."""

    def __init__(self, storage: LocalStorage, shards: Sequence[Shard]) -> None:
        """Reserve addresses and map the first file; another one is mapped when it is needed.

        Raises:
            OSError: there are too few addresses, or files cannot be mapped.
            InputError: the first file is missing, or has another length.
        """
        self._storage = storage
        self._shards = shards
        unit = huge_page() or mmap.PAGESIZE
        ends = np.cumsum([-(-shard.bytes // unit) * unit for shard in shards])
        around = reserved(int(ends[-1]) + unit)
        # Where the page cache has huge pages they are mapped as such if the addresses suit them.
        self.memory = around[-around.ctypes.data % unit :]
        self.starts = np.concatenate([[0], ends[:-1]]).tolist()
        self._mapped: set[int] = set()
        self._brought: set[int] = set()
        self._lock = Lock()
        self._map(0)

    def bring(self, index: int, group: RowGroup) -> NDArray[np.uint8]:
        """Bring a row group of a shard into memory: its bytes, [size].

        A file that is cut short after that, while it is used, ends the process, as with any mapped memory.

        Raises:
            InputError: the file is missing, has another length, or cannot be mapped or read.
        """
        shard = self._shards[index]
        try:
            self._map(index)
        except OSError as error:
            rule = f"a file that can be mapped is required ({error.strerror})"
            remedy = (
                "raise the limit of mappings (vm.max_map_count), or make a dataset of fewer, larger shards"
            )
            raise InputError(f"{shard.path} of {self._storage.uri}", shard.bytes, rule, remedy) from error
        first = self.starts[index] + group.offset
        pages = self.memory[first // mmap.PAGESIZE * mmap.PAGESIZE : first + group.bytes]
        # A disk that fails is then an error, where touching the pages would end the process. It takes as long
        # as copying them, and is left out where they are there, which Linux tells those who may write.
        known = first in self._brought and os.access(self._storage.root / shard.path, os.W_OK)
        failed = 0 if known and resident(pages) else advise(pages, MADV_POPULATE_READ)
        if failed:
            where = f"bytes {group.offset} to {group.offset + group.bytes}"
            # What would be SIGBUS is told as a bad address.
            why = "the disk failed, or the file was cut" if failed == errno.EFAULT else os.strerror(failed)
            remedy = "look at the node's disk and memory, or copy the file again"
            raise InputError(
                f"{shard.path} of {self._storage.uri}", where, f"they cannot be read: {why}", remedy
            )
        self._brought.add(first)
        return self.memory[first : first + group.bytes]

    def _map(self, index: int) -> None:
        shard = self._shards[index]
        # Opened each time: a file that is gone or has become another one is told before it is used.
        with open_sized(self._storage, shard.path, shard.bytes) as reader, self._lock:
            if index not in self._mapped:
                assert isinstance(reader, LocalReader)
                memory = self.memory[self.starts[index] :][: shard.bytes]
                map_over(memory, reader.fileno(), mmap.MAP_PRIVATE, mmap.PROT_READ)
                self._mapped.add(index)


class MappedReader:
    """Maps windows into memory."""

    # Nothing is waited for but the disk: more would only take turns.
    threads = min(4, os.cpu_count() or 1)

    def __init__(self, dataset: Dataset, split: str, columns: Sequence[str]) -> None:
        """Prepare to map.

        Args:
            dataset: the dataset, in local files.
            split: the split.
            columns: the columns that are needed.

        Raises:
            OSError: there are too few addresses.
        """
        assert isinstance(dataset.storage, LocalStorage)
        self._storage = dataset.storage
        self.layout = layout([dataset.column(name) for name in columns])
        self._narrow = layout([column for column in self.layout.columns if not is_wide(column)])
        shards = dataset.manifest.splits[split].shards
        self._files = FileMap(dataset.storage, shards)
        # The row groups of the split: the number of the shard, the shard, and the number of the row group.
        self._groups = [
            (index, shard, number)
            for index, shard in enumerate(shards)
            for number in range(len(shard.row_groups))
        ]
        # By wide column where in memory the values of each row group begin.
        self._values = {column.name: self._begin(column) for column in self.layout.columns if is_wide(column)}

    def _begin(self, column: Column) -> Indices:
        begins = []
        for index, shard, number in self._groups:
            begins.append(self._files.starts[index] + shard.row_groups[number].values(column))
        return np.array(begins, np.int64)

    def load(self, order: Order, number: int, submit: Submit) -> Callable[[], Window]:
        """Begin to bring a window; see `Loads.load`."""
        groups = order.windows[number]
        starts = np.cumsum([0, *(order.groups[group] for group in groups)]).tolist()
        narrow = np.empty((starts[-1], self._narrow.width), np.uint8)
        reads = [
            submit(self._bring, group, narrow[start : start + order.groups[group]])
            for group, start in zip(groups, starts, strict=False)
        ]
        group, row, chosen = located(order, number)
        values = {
            name: (self.layout.places[name][1], width, first[group] + row * width)
            for name, first in self._values.items()
            for width in [row_width(self.layout.places[name][0])]
        }
        at = self.layout.places[self._narrow.columns[0].name][1] if self._narrow.columns else 0
        window = MappedWindow(self._files.memory, values, narrow, chosen, at)
        return partial(arrived, window, reads)

    def _bring(self, number: int, narrow: Rows) -> None:
        index, shard, of_shard = self._groups[number]
        group = shard.row_groups[of_shard]
        data = memoryview(self._files.bring(index, group).data)
        wrong = damaged(data, group.offset, group, self.layout.columns)
        if wrong:
            raise damage(self._storage.uri, shard, of_shard, wrong, reads=1)
        arrays = cut(data, group.offset, group, self._narrow.columns)
        write_columns(narrow, self._narrow, {name: values[: len(narrow)] for name, values in arrays.items()})


@dataclass(frozen=True)
class MappedWindow:
    """Samples whose wide columns lie in mapped files, each by itself.

    Attributes:
        memory: the files, [size].
        values: by wide column its offset in a row, its width in bytes, and where the values of each sample
            begin in memory, [n], in the order of the samples.
        narrow: rows of the narrow columns, [m, bytes].
        chosen: which of these rows are the samples, in their order, [n].
        at: where the narrow columns begin in a row.
    """

    memory: NDArray[np.uint8]
    values: Mapping[str, tuple[int, int, Indices]]
    narrow: Rows
    chosen: Indices
    at: int

    def copy(self, first: int, last: int, target: Rows, alone: bool) -> None:
        """Copy column by column; see `Window.copy`. All of torch's threads do, whether `alone` or not."""
        out, memory = torch.from_numpy(target), torch.from_numpy(self.memory)
        for offset, width, begins in self.values.values():
            # The same bytes as rows that begin at every byte: only that takes values from any place.
            rows = memory.as_strided((len(memory) - width + 1, width), (1, 1))
            index = torch.from_numpy(begins[first:last])
            torch.index_select(rows, 0, index, out=out[:, offset : offset + width])
        taken = np.take(self.narrow, self.chosen[first:last], axis=0)
        target[:, self.at : self.at + taken.shape[1]] = taken
