"""Rows to batches: the one place where samples are copied together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.buffers import BufferPool
from ristune.data.columns import Column
from ristune.data.layout import Layout, Planes, row_width, strides

# Columns of a batch start at multiples of it: a cache line, and enough for every dtype.
LINE = 64

TORCH_DTYPES = {
    "|u1": torch.uint8,
    "|i1": torch.int8,
    "<i2": torch.int16,
    "<i4": torch.int32,
    "<i8": torch.int64,
    "<f2": torch.float16,
    "<f4": torch.float32,
    "<f8": torch.float64,
}


# The two parts of a batch: who keeps the ids of a batch must not keep its wide columns with them.
WIDE_PART, NARROW_PART = 0, 1


@dataclass(frozen=True)
class Packed:
    """A batch as two runs of bytes, so that it moves to a device in few pieces.

    Attributes:
        parts: the wide columns and the narrow ones, [size], uint8.
        rows: the number of samples.
    """

    parts: tuple[Tensor, ...]
    rows: int


class Gatherer:
    """Copies samples out of planes into batches, whose columns are contiguous."""

    def __init__(self, layout: Layout, columns: Sequence[str], batch_size: int) -> None:
        """Lay out a batch.

        Args:
            layout: the layout of the planes.
            columns: the columns of a batch, in this order.
            batch_size: the most samples in a batch.
        """
        # All that does not change from batch to batch is worked out here: a batch takes half a millisecond.
        self._wide: list[tuple[int, int, int]] = []
        self._narrow: list[tuple[int, _Place]] = []
        self._columns: list[tuple[str, _Place]] = []
        self._sizes = [0, 0]
        for name in columns:
            number, column, offset = layout.places[name]
            part = WIDE_PART if layout.planes[number].wide else NARROW_PART
            place = _Place(column, part, self._sizes[part], offset, layout.planes[number].width)
            if part == WIDE_PART:
                self._wide.append((number, place.start, place.width))
            else:
                self._narrow.append((number, place))
            self._columns.append((name, place))
            self._sizes[part] = -(-(place.start + place.width * batch_size) // LINE) * LINE

    def pools(self, kept: int, pinned: bool) -> list[BufferPool]:
        """Memory for batches, a pool for each part; see `BufferPool`."""
        return [BufferPool(size, kept, pinned) for size in self._sizes]

    def gather(
        self, pools: Sequence[BufferPool], pieces: Sequence[tuple[Planes, NDArray[np.int64]]]
    ) -> Packed:
        """Copy a batch together; the interpreter's lock is released meanwhile.

        Args:
            pools: as `pools` makes them.
            pieces: planes, and the rows to take from them, [b]; together at most `batch_size` rows.

        Returns:
            The batch; the memory of a part goes back to its pool when the last tensor of it is gone.
        """
        wide, narrow = (pool.take() for pool in pools)
        done = 0
        for planes, rows in pieces:
            count = len(rows)
            for number, start, width in self._wide:
                first = start + done * width
                target = wide[first : first + count * width].reshape(count, width)
                # Rows are in range by construction; any other mode would copy through a buffer of numpy's.
                np.take(planes[number], rows, axis=0, out=target, mode="clip")
            taken: dict[int, NDArray[np.uint8]] = {}
            for number, place in self._narrow:
                if number not in taken:
                    taken[number] = np.take(planes[number], rows, axis=0, mode="clip")
                place.of_batch(narrow, done, count)[...] = place.of_plane(taken[number], count)
            done += count
        return Packed((torch.from_numpy(wide), torch.from_numpy(narrow)), done)

    def columns(self, batch: Packed) -> dict[str, Tensor]:
        """The columns of a batch by name, [B, *shape], of their dtypes, sharing its memory."""
        if batch.parts[0].device.type == "cpu":
            # By way of numpy, whose views are made in a third of the time.
            memory = [part.numpy() for part in batch.parts]
            return {
                name: torch.from_numpy(place.of_batch(memory[place.part], 0, batch.rows))
                for name, place in self._columns
            }
        return {
            name: batch.parts[place.part][place.start : place.start + batch.rows * place.width]
            .view(TORCH_DTYPES[place.dtype])
            .view(batch.rows, *place.shape)
            for name, place in self._columns
        }


class _Place:
    """Where a column lies in a batch, and in the rows of its plane."""

    def __init__(self, column: Column, part: int, start: int, offset: int, stride: int) -> None:
        self.dtype = column.dtype
        self.shape = column.shape
        self.part = part
        self.start = start
        self.width = row_width(column)
        self._offset = offset
        self._strides = (stride, *strides(column))

    def of_batch(self, part: NDArray[np.uint8], first: int, rows: int) -> NDArray[Any]:
        """[rows, *shape] of a part of a batch, from its row `first` on, contiguous."""
        return np.ndarray((rows, *self.shape), self.dtype, part, self.start + first * self.width)

    def of_plane(self, taken: NDArray[np.uint8], rows: int) -> NDArray[Any]:
        """[rows, *shape] of rows of its plane, strided."""
        return np.ndarray((rows, *self.shape), self.dtype, taken, self._offset, self._strides)


def gather_there(
    planes: Mapping[int, Tensor], layout: Layout, columns: Sequence[str], rows: Tensor
) -> dict[str, Tensor]:
    """A batch from planes that lie on a device, gathered there.

    Args:
        planes: by number, [rows, width], uint8.
        layout: their layout.
        columns: the columns of the batch, in this order.
        rows: which rows, [B], int64, on the same device.

    Returns:
        The columns by name, [B, *shape], of their dtypes, contiguous.
    """
    numbers = {layout.places[name][0] for name in columns}
    taken = {number: torch.index_select(planes[number], 0, rows) for number in numbers}
    found = {}
    for name in columns:
        number, column, offset = layout.places[name]
        part = taken[number][:, offset : offset + row_width(column)].contiguous()
        found[name] = part.view(TORCH_DTYPES[column.dtype]).view(len(rows), *column.shape)
    return found
