"""Rows to batches: the one place where samples are copied together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.buffers import BufferPool
from ristune.data.layout import Layout, Rows, is_wide, row_width

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

Batch = dict[str, Tensor]


class Window(Protocol):
    """Samples in an order."""

    def copy(self, first: int, last: int, target: Rows, alone: bool) -> None:
        """Copy samples `first` to `last`, not included, in their order.

        Args:
            first: counted from the window's first.
            last: one after the last one.
            target: where to, [last - first, width].
            alone: whether no other thread copies, so that all of torch's threads may.
        """


@dataclass(frozen=True)
class RowWindow:
    """Samples that lie in rows.

    Attributes:
        rows: [m, width].
        chosen: which of them are the samples, in their order, [n].
        keep: what must live as long as the rows are used.
    """

    rows: Rows
    chosen: NDArray[np.int64]
    keep: object = None

    def copy(self, first: int, last: int, target: Rows, alone: bool) -> None:
        """Copy whole rows; see `Window.copy`."""
        chosen = self.chosen[first:last]
        if alone:
            source = torch.from_numpy(self.rows.view(np.int64))
            out = torch.from_numpy(target.view(np.int64))
            torch.index_select(source, 0, torch.from_numpy(chosen), out=out)
        else:
            # They are in range by construction; any other mode would copy through a buffer of numpy's.
            np.take(self.rows, chosen, axis=0, out=target, mode="clip")


class Gatherer:
    """Copies samples together into batches.

    Who keeps the ids of a batch must not keep its wide columns with them: narrow ones are copied once more.
    """

    def __init__(self, layout: Layout, columns: Sequence[str], batch_size: int) -> None:
        """Lay out a batch.

        Args:
            layout: the layout of the rows.
            columns: the columns of a batch, in this order.
            batch_size: the most samples in a batch.
        """
        # All that does not change from batch to batch is worked out here: a batch takes half a millisecond.
        self._width = layout.width
        self._batch_bytes = layout.width * batch_size
        self._places = [(name, is_wide(layout.places[name][0]), *layout.places[name]) for name in columns]
        self._row = np.dtype(
            {
                "names": [column.name for column in layout.columns],
                "formats": [(column.dtype, column.shape) for column in layout.columns],
                "offsets": list(layout.offsets),
                "itemsize": layout.width,
            }
        )

    def pool(self, kept: int, pinned: bool) -> BufferPool:
        """Memory for batches; see `BufferPool`."""
        return BufferPool(self._batch_bytes, kept, pinned)

    def gather(self, pool: BufferPool, parts: Sequence[tuple[Window, int, int]], alone: bool) -> Rows:
        """Copy samples together; the interpreter's lock is released meanwhile.

        Args:
            pool: as `pool` makes it.
            parts: windows, and which samples to take from them; together at most `batch_size`.
            alone: see `Window.copy`.

        Returns:
            The rows, [B, width]; their memory goes back to the pool when nothing refers to it any more.
        """
        count = sum(last - first for _, first, last in parts)
        samples = pool.take()[: count * self._width].reshape(count, self._width)
        done = 0
        for window, first, last in parts:
            window.copy(first, last, samples[done : done + last - first], alone)
            done += last - first
        return samples

    def columns(self, samples: Rows) -> Batch:
        """The columns of a batch by name, [B, *shape], of their dtypes.

        Narrow ones are contiguous; of wide ones, which share the memory of the samples, each sample is, one
        `stride(0)` after the other.

        Args:
            samples: [B, width].
        """
        rows = samples.reshape(-1).view(self._row)
        return {
            name: torch.from_numpy(rows[name] if wide else rows[name].copy())
            for name, wide, _, _ in self._places
        }

    def columns_there(self, samples: Tensor) -> Batch:
        """The same of samples that lie on a device, [B, width], uint8."""
        found = {}
        for name, wide, column, offset in self._places:
            part = samples[:, offset : offset + row_width(column)].view(TORCH_DTYPES[column.dtype])
            values = part.view(len(samples), *column.shape)
            found[name] = values if wide else values.clone(memory_format=torch.contiguous_format)
        return found
