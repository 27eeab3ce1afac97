"""Rows to batches: the one place where samples are copied together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.buffers import BufferPool
from ristune.data.columns import Column
from ristune.data.layout import Layout, Planes, row_width, view

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
        # All that does not change from batch to batch is worked out here: a batch takes a millisecond.
        self._wide: list[tuple[int, int, int]] = []
        self._narrow: list[tuple[int, Column, int, int, int]] = []
        self._columns: list[tuple[str, torch.dtype, tuple[int, ...], int, int, int]] = []
        self._sizes = [0, 0]
        for name in columns:
            number, column, offset = layout.places[name]
            part = WIDE_PART if layout.planes[number].wide else NARROW_PART
            start = self._sizes[part]
            if part == WIDE_PART:
                self._wide.append((number, start, row_width(column)))
            else:
                self._narrow.append((number, column, offset, start, row_width(column)))
            width = row_width(column)
            self._columns.append((name, TORCH_DTYPES[column.dtype], column.shape, part, start, width))
            self._sizes[part] = -(-(start + row_width(column) * batch_size) // LINE) * LINE

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
            for number, column, offset, start, width in self._narrow:
                if number not in taken:
                    taken[number] = np.take(planes[number], rows, axis=0, mode="clip")
                first = start + done * width
                target = narrow[first : first + count * width].view(column.dtype)
                target.reshape(count, *column.shape)[...] = view(taken[number], column, offset)
            done += count
        return Packed((torch.from_numpy(wide), torch.from_numpy(narrow)), done)

    def columns(self, batch: Packed) -> dict[str, Tensor]:
        """The columns of a batch by name, [B, *shape], of their dtypes, sharing its memory."""
        found = {}
        for name, dtype, shape, part, start, width in self._columns:
            values = batch.parts[part][start : start + batch.rows * width]
            found[name] = values.view(dtype).view(batch.rows, *shape)
        return found


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
