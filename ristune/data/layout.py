"""How samples lie in the memory of a node: all columns of a sample together, sample after sample.

A batch is then copied together from one place a sample. With the columns apart it would be one a column, and
each of them waits for the memory anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.columns import Column

# A column from this many bytes on is wide: a batch has it where the sample lies, and not in a copy.
WIDE = 1024
# Wide columns and rows that have one start at multiples of it: a cache line, and enough for every dtype.
LINE = 64
# Other rows start at multiples of it, which suits every dtype too.
WORD = 8

# Samples, [n, width], uint8.
Rows = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Where each column lies in the row of a sample.

    Attributes:
        columns: the columns in the order they lie in: wide ones first.
        offsets: where each starts, in bytes.
        width: the bytes of a row, padding included.
    """

    columns: tuple[Column, ...]
    offsets: tuple[int, ...]
    width: int

    @cached_property
    def places(self) -> Mapping[str, tuple[Column, int]]:
        """By name: the column and its offset."""
        pairs = zip(self.columns, self.offsets, strict=True)
        return {column.name: (column, offset) for column, offset in pairs}


def layout(columns: Sequence[Column]) -> Layout:
    """The layout of columns; the same columns always have the same one."""
    wide = [column for column in columns if is_wide(column)]
    # From large elements to small ones each starts at a multiple of its own size, without gaps.
    narrow = sorted(
        (column for column in columns if not is_wide(column)),
        key=lambda column: -np.dtype(column.dtype).itemsize,
    )
    offsets, end = [], 0
    for column in wide:
        offsets.append(end)
        end = _rounded(end + row_width(column), LINE)
    for column in narrow:
        offsets.append(end)
        end += row_width(column)
    return Layout((*wide, *narrow), tuple(offsets), _rounded(end, LINE if wide else WORD))


def is_wide(column: Column) -> bool:
    """Whether a batch has the column where the sample lies."""
    return row_width(column) >= WIDE


def row_width(column: Column) -> int:
    """The bytes of one row of a column in memory, where scalars are as narrow as they are declared."""
    return column.elements * np.dtype(column.dtype).itemsize


def write_columns(rows: Rows, of: Layout, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write columns into rows.

    Args:
        rows: where to, [n, width]; what lies between the columns is left as it is.
        of: their layout.
        arrays: [n, *shape] by name, as stored in a shard or of the column's dtype.
    """
    for name, array in arrays.items():
        column, offset = of.places[name]
        if array.dtype == np.dtype(column.dtype) and array.flags.c_contiguous:
            # As bytes, so that a sample is copied at once, whatever its dtype and shape.
            width = row_width(column)
            rows[:, offset : offset + width] = array.reshape(len(rows), -1).view(np.uint8)
        else:
            view(rows, column, offset)[...] = array


def view(rows: Rows, column: Column, offset: int) -> NDArray[Any]:
    """One column of rows, without a copy.

    Args:
        rows: [n, width].
        column: the column.
        offset: where it starts in a row.

    Returns:
        [n, *shape], of the column's dtype, strided.
    """
    shape, steps = (len(rows), *column.shape), (rows.strides[0], *strides(column))
    return np.ndarray(shape, column.dtype, rows, offset, steps)


def strides(column: Column) -> tuple[int, ...]:
    """The bytes from one element to the next in a row of a column, for each of its axes."""
    found, step = [], np.dtype(column.dtype).itemsize
    for size in reversed(column.shape):
        found.append(step)
        step *= size
    return tuple(reversed(found))


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
