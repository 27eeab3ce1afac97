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


@dataclass(frozen=True)
class Packed:
    """A batch as one run of bytes, so that it moves to a device in one piece.

    Attributes:
        data: the bytes, [size], uint8.
        rows: the number of samples.
    """

    data: Tensor
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
        self._layout = layout
        self._wide: list[tuple[int, int, int]] = []
        self._narrow: list[tuple[int, Column, int, int]] = []
        self._columns: list[tuple[Column, int]] = []
        size = 0
        for name in columns:
            number, column, offset = layout.places[name]
            if layout.planes[number].wide:
                self._wide.append((number, size, row_width(column)))
            else:
                self._narrow.append((number, column, offset, size))
            self._columns.append((column, size))
            size = -(-(size + row_width(column) * batch_size) // LINE) * LINE
        self.size = size

    def gather(
        self, pool: BufferPool, pieces: Sequence[tuple[Planes, NDArray[np.int64]]], keep: Any = None
    ) -> Packed:
        """Copy a batch together; the interpreter's lock is released meanwhile.

        Args:
            pool: of buffers of `size`.
            pieces: planes, and the rows to take from them, [b]; together at most `batch_size` rows.
            keep: what must live until the copy is made.

        Returns:
            The batch; its memory goes back to the pool when the last tensor of it is gone.
        """
        buffer = pool.take()
        done = 0
        for planes, rows in pieces:
            count = len(rows)
            for number, start, width in self._wide:
                first = start + done * width
                target = buffer[first : first + count * width].reshape(count, width)
                # Rows are in range by construction; any other mode would copy through a buffer of numpy's.
                np.take(planes[number], rows, axis=0, out=target, mode="clip")
            taken: dict[int, NDArray[np.uint8]] = {}
            for number, column, offset, start in self._narrow:
                if number not in taken:
                    taken[number] = np.take(planes[number], rows, axis=0, mode="clip")
                width = row_width(column)
                first = start + done * width
                target = buffer[first : first + count * width].view(column.dtype)
                target.reshape(count, *column.shape)[...] = view(taken[number], column, offset)
            done += count
        return Packed(torch.from_numpy(buffer), done)

    def columns(self, batch: Packed) -> dict[str, Tensor]:
        """The columns of a batch by name, [B, *shape], of their dtypes, sharing its memory."""
        found = {}
        for column, start in self._columns:
            part = batch.data[start : start + batch.rows * row_width(column)]
            found[column.name] = part.view(TORCH_DTYPES[column.dtype]).view(batch.rows, *column.shape)
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
