"""How rows lie in the memory of a node: wide columns by themselves, the narrow ones of a row together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.columns import Column

# A column from this many bytes on is gathered by itself; below, one cache miss would serve too few bytes.
WIDE = 1024
# Rows of a plane start at multiples of it, which suits every dtype.
ALIGNMENT = 8
# Planes start on pages of their own.
PAGE = 4096

Planes = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Plane:
    """Columns whose bytes lie together, row after row.

    Attributes:
        columns: the columns.
        offsets: where each starts in a row, in bytes.
        width: the bytes of a row, padding included.
        wide: whether it is one column that lies by itself, without padding.
    """

    columns: tuple[Column, ...]
    offsets: tuple[int, ...]
    width: int
    wide: bool


@dataclass(frozen=True)
class Layout:
    """Where each column of a sample lies: in which plane, and where in its rows."""

    planes: tuple[Plane, ...]

    @property
    def row_bytes(self) -> int:
        """The bytes of one sample in all planes."""
        return sum(plane.width for plane in self.planes)

    @cached_property
    def places(self) -> Mapping[str, tuple[int, Column, int]]:
        """By column: the number of its plane, the column, and its offset in the plane's rows."""
        return {
            column.name: (number, column, offset)
            for number, plane in enumerate(self.planes)
            for column, offset in zip(plane.columns, plane.offsets, strict=True)
        }

    def extents(self, rows: int) -> list[int]:
        """Where each plane of so many rows starts in a file, and last where the file ends, in bytes."""
        starts = [0]
        for plane in self.planes:
            starts.append(-(-(starts[-1] + rows * plane.width) // PAGE) * PAGE)
        return starts


def layout(columns: Sequence[Column]) -> Layout:
    """The layout of columns; the same columns always have the same one."""
    wide = [column for column in columns if row_width(column) >= WIDE]
    narrow = [column for column in columns if row_width(column) < WIDE]
    planes = [Plane((column,), (0,), row_width(column), wide=True) for column in wide]
    if narrow:
        # From large elements to small ones each starts at a multiple of its own size, without gaps.
        narrow.sort(key=lambda column: -np.dtype(column.dtype).itemsize)
        offsets = [0]
        for column in narrow:
            offsets.append(offsets[-1] + row_width(column))
        width = -(-offsets[-1] // ALIGNMENT) * ALIGNMENT
        planes.append(Plane(tuple(narrow), tuple(offsets[:-1]), width, wide=False))
    return Layout(tuple(planes))


def planes(buffer: NDArray[np.uint8], of: Layout, rows: int) -> Planes:
    """The planes of so many rows in a buffer of `of.extents(rows)[-1]` bytes."""
    return [
        buffer[start : start + rows * plane.width].reshape(rows, plane.width)
        for plane, start in zip(of.planes, of.extents(rows), strict=False)
    ]


def row_width(column: Column) -> int:
    """The bytes of one row of a column in memory, where scalars are as narrow as they are declared."""
    return column.elements * np.dtype(column.dtype).itemsize


def pack(plane: Plane, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Rows of a plane.

    Args:
        plane: the plane.
        arrays: [rows, *shape] for each of its columns, as stored in a shard or of the column's dtype.

    Returns:
        [rows, width], uint8; for a wide plane the memory of the array passed in.
    """
    first = plane.columns[0]
    if plane.wide:
        array = np.ascontiguousarray(arrays[first.name], dtype=first.dtype)
        return array.reshape(len(array), -1).view(np.uint8)
    rows = len(arrays[first.name])
    packed = np.zeros((rows, plane.width), np.uint8)
    for column, offset in zip(plane.columns, plane.offsets, strict=True):
        view(packed, column, offset)[:] = arrays[column.name]
    return packed


def view(rows: NDArray[np.uint8], column: Column, offset: int) -> NDArray[Any]:
    """One column in rows of its plane, without a copy.

    Args:
        rows: [rows, width], uint8.
        column: the column.
        offset: where it starts in a row.

    Returns:
        [rows, *shape], of the column's dtype, strided.
    """
    return np.ndarray(
        (len(rows), *column.shape),
        column.dtype,
        rows,
        offset,
        (rows.strides[0], *strides(column)),
    )


def strides(column: Column) -> tuple[int, ...]:
    """The bytes from one element to the next in a row of a column, for each of its axes."""
    found, step = [], np.dtype(column.dtype).itemsize
    for size in reversed(column.shape):
        found.append(step)
        step *= size
    return tuple(reversed(found))
