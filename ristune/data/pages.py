"""Whether a Parquet file is laid out as the format says: its footer, its pages, its metadata."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from ristune.data.columns import Column
from ristune.data.foreign.footers import MAGIC
from ristune.data.foreign.tensors import metadata_of
from ristune.data.manifest import ColumnChunk, RowGroup, Shard
from ristune.data.shards import cut
from ristune.data.thrift import read_struct

# Parquet's types by numpy's; tensors and half floats are bytes of fixed length.
PHYSICAL = {"<i4": "INT32", "<i8": "INT64", "<f4": "FLOAT", "<f8": "DOUBLE"}
OPAQUE = "FIXED_LEN_BYTE_ARRAY"
# Numbers of the Parquet specification: a data page of version 1, and the encoding PLAIN.
DATA_PAGE, PLAIN = 0, 0
REWRITE = "write the file as docs/data-format.md says"


@dataclass(frozen=True)
class Finding:
    """One fault of a dataset.

    Attributes:
        place: the file, and in it row group and column where they are known.
        text: what is wrong and what to do about it.
    """

    place: str
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.place}: {self.text}"


def place(path: str, group: int, column: str) -> str:
    """How findings name a column of a row group."""
    return f"{path}, row group {group}, column {column!r}"


def layout_faults(data: memoryview, shard: Shard, columns: Sequence[Column]) -> Iterator[Finding]:
    """Hold a file's footer, page headers and metadata against the manifest and the format.

    Args:
        data: the whole file, of the length that the manifest says.
        shard: what the manifest says of it.
        columns: its columns.

    Yields:
        A finding for each fault; values are not looked at.
    """
    try:
        footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(data)))
        fields = footer.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        yield Finding(shard.path, f"it has no footer that can be read ({error}); {REWRITE}")
        return
    if bytes(data[: len(MAGIC)]) != MAGIC:
        yield Finding(shard.path, f"a Parquet file begins with {MAGIC!r}, this one does not; {REWRITE}")
    names = [footer.schema.column(i).path for i in range(footer.num_columns)]
    wanted = [column.name for column in columns]
    if names != wanted:
        yield Finding(
            shard.path, f"its columns are {names}, the manifest has {wanted} in this order; {REWRITE}"
        )
        return
    rows = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    if rows != [group.rows for group in shard.row_groups]:
        yield Finding(
            shard.path, f"its footer has row groups of {rows} rows, the manifest other ones; {REWRITE}"
        )
        return
    yield from _schema_faults(footer.schema, fields, shard, columns)
    try:
        statistics = _statistics(data)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        yield Finding(shard.path, f"its footer cannot be read ({error!r}); {REWRITE}")
        return
    for index, group in enumerate(shard.row_groups):
        stored = footer.row_group(index)
        for position, column in enumerate(columns):
            where = place(shard.path, index, column.name)
            for fault in _chunk_faults(
                data, group, column, stored.column(position), statistics[index][position]
            ):
                yield Finding(where, f"{fault}; {REWRITE}")
        first = min(chunk.offset for chunk in group.columns.values())
        last = max(chunk.offset + chunk.length for chunk in group.columns.values())
        if (group.offset, group.bytes) != (first, last - first):
            text = (
                f"its columns lie at bytes {first} to {last}, the manifest gives the row group another range"
            )
            yield Finding(f"{shard.path}, row group {index}", f"{text}; {REWRITE}")


def _schema_faults(
    schema: Any, fields: pa.Schema, shard: Shard, columns: Sequence[Column]
) -> Iterator[Finding]:
    for position, column in enumerate(columns):
        where = f"{shard.path}, column {column.name!r}"
        stored, field = schema.column(position), fields.field(position)
        wanted = OPAQUE if column.shape else PHYSICAL.get(column.stored_dtype.str, OPAQUE)
        width = stored.length if wanted == OPAQUE else column.stored_width
        if (stored.physical_type, width) != (wanted, column.stored_width):
            found = f"it is stored as {stored.physical_type} of {width} bytes"
            yield Finding(where, f"{found}, {wanted} of {column.stored_width} bytes is required; {REWRITE}")
        if stored.max_definition_level or stored.max_repetition_level:
            yield Finding(where, f"it may hold nulls or lists, a required column is wanted; {REWRITE}")
        elif field.type not in arrow_types(column):
            wanted_type = arrow_types(column)[0]
            yield Finding(where, f"other tools read it as {field.type}, {wanted_type} is required; {REWRITE}")
        kept = {
            key.decode(errors="replace"): text.decode(errors="replace")
            for key, text in (field.metadata or {}).items()
        }
        for key, text in metadata_of(column).items():
            if kept.get(key) != text and not (key == "shape" and _same_json(kept.get(key), text)):
                found = f"its field metadata has {key}={kept.get(key)!r}, the manifest says {text!r}"
                yield Finding(where, f"{found}; {REWRITE}")


def arrow_types(column: Column) -> tuple[pa.DataType, ...]:
    """The Arrow types that a column may have in a file, the one that ristune writes first."""
    if column.shape:
        return (pa.binary(column.stored_width),)
    return pa.from_numpy_dtype(np.dtype(column.dtype)), pa.from_numpy_dtype(column.stored_dtype)


def _same_json(one: str | None, other: str) -> bool:
    """Whether two texts are the same JSON value; spaces do not matter."""
    try:
        return one is not None and bool(json.loads(one) == json.loads(other))
    except (ValueError, RecursionError):
        return False


def _chunk_faults(
    data: memoryview, group: RowGroup, column: Column, stored: Any, statistics: Any
) -> Iterator[str]:
    chunk = group.columns[column.name]
    if stored.compression != "UNCOMPRESSED":
        yield f"it is compressed with {stored.compression}"
        return
    if stored.has_dictionary_page:
        yield "it has a dictionary"
        return
    if (stored.data_page_offset, stored.total_compressed_size) != (chunk.offset, chunk.length):
        yield (
            f"the footer says bytes {stored.data_page_offset} + {stored.total_compressed_size}, "
            f"the manifest {chunk.offset} + {chunk.length}"
        )
        return
    if stored.total_uncompressed_size != chunk.length:
        yield f"the footer says {stored.total_uncompressed_size} bytes uncompressed, these are {chunk.length}"
    if stored.num_values != group.rows:
        yield f"the footer says {stored.num_values} values, these are {group.rows}"
    if not column.shape:
        yield from _bounds_faults(cut(data, 0, group, [column])[column.name], statistics)
    yield from _page_faults(data[chunk.offset : chunk.offset + chunk.length], chunk, group.rows, column)


def _statistics(data: memoryview) -> list[list[Any]]:
    """The statistics in a footer, by row group and column; pyarrow aborts where one has another length.

    Raises:
        IndexError, KeyError, TypeError, ValueError: the footer is malformed.
    """
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer: Any = read_struct(data[start:-8], 0)[0]
    return [[chunk[3].get(12, {}) for chunk in group[1]] for group in footer[4]]


def _bounds_faults(array: NDArray[Any], said: Any) -> Iterator[str]:
    """The statistics of a column chunk: a reader that filters by false ones passes rows over."""
    # Fields of the Parquet specification: bounds as they are written now, and as they once were.
    now, once = (said.get(6), said.get(5)), (said.get(2), said.get(1))
    if None in now:
        yield "a scalar has statistics, this one has none"
        return
    if said.get(3):
        yield f"its statistics count {said[3]} nulls, and there are none"
    for bounds in (now, once):
        if None in bounds:
            continue
        if any(not isinstance(raw, bytes) or len(raw) != array.itemsize for raw in bounds):
            yield f"its statistics are not of {array.itemsize} bytes"
            return
        low, high = (np.frombuffer(raw, array.dtype)[0] for raw in bounds)
        # Written so that a NaN, which is a fault of its own, is none here.
        if low > array.min() or high < array.max():
            found = f"values from {array.min()} to {array.max()}"
            yield f"its statistics say {low} to {high}, it has {found}"
            return


def _page_faults(data: memoryview, chunk: ColumnChunk, rows: int, column: Column) -> Iterator[str]:
    width = rows * column.stored_width
    try:
        header, body = read_struct(data, 0)
    except (IndexError, ValueError) as error:
        yield f"its page header cannot be read ({error})"
        return
    page = header.get(5)
    if header.get(1) != DATA_PAGE or not isinstance(page, dict):
        yield f"a data page of version 1 is required, this page is of type {header.get(1)}"
        return
    if header.get(2) != width:
        yield f"its page header says {header.get(2)} bytes uncompressed, {width} are required"
    if header.get(3) != width or body + width != chunk.length:
        yield (
            f"one page of {rows} * {column.stored_width} = {width} bytes is required, "
            f"its first page has {header.get(3)} of {chunk.length - body}"
        )
        return
    if (page.get(1), page.get(2)) != (rows, PLAIN):
        found = f"its page has {page.get(1)} in encoding {page.get(2)}"
        yield f"{rows} values in encoding {PLAIN} are required, {found}"
    checksum = header.get(4)
    if not isinstance(checksum, int):
        yield "its page has no CRC"
    elif checksum & 0xFFFFFFFF != crc32(data[body:]):
        yield f"its page has the CRC {crc32(data[body:])}, its header says {checksum & 0xFFFFFFFF}"
