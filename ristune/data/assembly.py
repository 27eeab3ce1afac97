"""Row groups put together from bytes of their file, whatever pieces these come in."""

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from ristune.data.layout import Layout, Rows, is_wide, write_columns
from ristune.data.manifest import RowGroup
from ristune.data.shards import cut


class Assembly:
    """Rows of a row group, of which not all may have arrived."""

    def __init__(self, group: RowGroup, layout: Layout, rows: Rows) -> None:
        """Nothing has arrived.

        Args:
            group: what the manifest says of the row group.
            layout: the layout of the rows; columns that are not in it are left out.
            rows: where they go, [rows of the group, width].
        """
        self.rows = rows
        self._group = group
        self._layout = layout
        # In the order of the file: the chunks that are not complete yet, the next one last.
        self._left = sorted(
            ((group.columns[name], column, at) for name, (column, at) in layout.places.items()),
            key=lambda left: left[0].offset,
            reverse=True,
        )
        self._checksums = dict.fromkeys(layout.places, 0)
        # What has arrived of narrow columns, which are few bytes, and not always as wide as in memory.
        self._narrow = {column.name: bytearray() for column in layout.columns if not is_wide(column)}

    def take(self, offset: int, data: NDArray[np.uint8]) -> bool:
        """Take bytes of the file, in order; whether the rows are complete.

        Args:
            offset: of the first one.
            data: [size].
        """
        end = offset + len(data)
        while self._left and self._left[-1][0].offset < end:
            chunk, column, at = self._left[-1]
            first, last = max(chunk.offset, offset), min(chunk.offset + chunk.length, end)
            part = data[first - offset : last - offset]
            self._checksums[column.name] = crc32(part, self._checksums[column.name])
            if column.name in self._narrow:
                self._narrow[column.name].extend(part.data)
            else:
                values = self._group.values(column)
                start = max(values, first)
                target = self.rows[:, at : at + column.stored_width]
                spread(target, start - values, part[start - first :])
            if chunk.offset + chunk.length > end:
                return False
            self._left.pop()
        if self._left:
            return False
        for name, stored in self._narrow.items():
            column, _ = self._layout.places[name]
            arrays = cut(memoryview(stored), self._group.columns[name].offset, self._group, [column])
            write_columns(self.rows, self._layout, arrays)
        return True

    def damaged(self) -> list[str]:
        """The columns of complete rows whose bytes are not those that were written."""
        return [name for name, found in self._checksums.items() if found != self._group.columns[name].crc32]


def spread(rows: Rows, at: int, data: NDArray[np.uint8]) -> None:
    """Copy bytes into rows as if these lay one after another.

    Args:
        rows: [n, width], which need not touch.
        at: how many bytes of them come before.
        data: [size].
    """
    width = rows.shape[1]
    row, begun = divmod(at, width)
    if begun and len(data):
        head = data[: width - begun]
        rows[row, begun : begun + len(head)] = head
        row, data = row + 1, data[len(head) :]
    whole = len(data) // width
    rows[row : row + whole] = data[: whole * width].reshape(whole, width)
    tail = data[whole * width :]
    if len(tail):
        rows[row + whole, : len(tail)] = tail
