"""The shard format, version 1: Parquet whose columns can be cut out of the file by byte range."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from ristune.data.columns import Column
from ristune.data.manifest import ColumnChunk, RowGroup, Shard
from ristune.errors import InputError

# Large enough for fast reads, small enough to mix some dozens of them in memory.
ROW_GROUP_BYTES = 8 * 2**20
# Both limits of a page out of reach: a column chunk is then one page (the default ends it at 20 000 rows).
UNLIMITED = 2**31 - 1

Arrays = Mapping[str, NDArray[Any]]


def row_bytes(columns: Sequence[Column]) -> int:
    """The number of bytes of one row of these columns in a file."""
    return sum(column.stored_width for column in columns)


def encode(
    path: str, columns: Sequence[Column], arrays: Arrays, row_group_bytes: int = ROW_GROUP_BYTES
) -> tuple[memoryview, Shard]:
    """Lay out one shard in memory.

    Args:
        path: where the shard will lie, relative to the dataset.
        columns: what to write, in this order.
        arrays: one array [rows, *shape] for each column, of its dtype; rows already in random order.
        row_group_bytes: the size of a row group; a row larger than this has one of its own.

    Returns:
        The bytes of the file, and the shard with the byte ranges that the file's own footer gives.

    Raises:
        InputError: the arrays are not what the columns declare, or a value is NaN or infinite.
    """
    contiguous = _check_arrays(path, columns, arrays)
    rows = len(contiguous[columns[0].name])
    schema = pa.schema([_field(column) for column in columns])
    table = pa.table([_arrow_array(column, contiguous[column.name]) for column in columns], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=min(rows, max(1, row_group_bytes // row_bytes(columns))),
        compression="NONE",
        use_dictionary=False,
        column_encoding="PLAIN",
        write_statistics=[column.name for column in columns if not column.shape],
        data_page_version="1.0",
        data_page_size=UNLIMITED,
        max_rows_per_page=UNLIMITED,
        write_page_checksum=True,
    )
    data = memoryview(sink.getvalue())
    groups = _row_groups(data)
    shard = Shard(path, rows, len(data), hashlib.sha256(data).hexdigest(), groups)
    _check_layout(data, shard, columns, contiguous)
    return data, shard


def decode(
    data: bytes | memoryview, shard: Shard, columns: Sequence[Column], uri: str = ""
) -> dict[str, NDArray[Any]]:
    """Read columns of a shard by the manifest's byte ranges; the footer is not looked at.

    Args:
        data: the whole file.
        shard: what the manifest says of it.
        columns: the columns to read.
        uri: the dataset, as it is to be named in errors.

    Returns:
        One writable array [rows, *shape] for each column, of its dtype, sharing no memory with `data`.

    Raises:
        InputError: the file has another length or hash than the manifest says.
    """
    name = f"{uri}/{shard.path}" if uri else shard.path
    remedy = "the file is truncated or altered: copy or write the dataset again"
    if len(data) != shard.bytes:
        raise InputError(name, f"{len(data)} bytes", f"the manifest says {shard.bytes} bytes", remedy)
    digest = hashlib.sha256(data).hexdigest()
    if digest != shard.sha256:
        raise InputError(name, f"sha256 {digest}", f"the manifest says sha256 {shard.sha256}", remedy)
    arrays = {column.name: np.empty((shard.rows, *column.shape), column.dtype) for column in columns}
    first = 0
    for group in shard.row_groups:
        for name, values in cut(data, 0, group, columns).items():
            arrays[name][first : first + group.rows] = values
        first += group.rows
    return arrays


def cut(
    data: bytes | memoryview, start: int, group: RowGroup, columns: Sequence[Column]
) -> dict[str, NDArray[Any]]:
    """Columns of a row group, nothing checked.

    Args:
        data: bytes of the file that hold the columns' chunks.
        start: where in the file `data` starts.
        group: what the manifest says of the row group.
        columns: the columns to read.

    Returns:
        One read-only array [rows, *shape] for each column, of its stored dtype, in the memory of `data`.
    """
    arrays = {}
    for column in columns:
        offset = group.values(column) - start
        flat = np.frombuffer(data, column.stored_dtype, count=group.rows * column.elements, offset=offset)
        arrays[column.name] = flat.reshape(group.rows, *column.shape)
    return arrays


def damaged(data: bytes | memoryview, start: int, group: RowGroup, columns: Sequence[Column]) -> list[str]:
    """The columns of a row group whose bytes are not those that were written; arguments as for `cut`."""
    view, names = memoryview(data), []
    for column in columns:
        chunk = group.columns[column.name]
        first = chunk.offset - start
        if crc32(view[first : first + chunk.length]) != chunk.crc32:
            names.append(column.name)
    return names


def damage(uri: str, shard: Shard, number: int, columns: Sequence[str], reads: int) -> InputError:
    """The error that columns of a row group are damaged.

    Args:
        uri: the dataset.
        shard: the shard.
        number: which of its row groups.
        columns: the columns.
        reads: how often they were read.
    """
    rule = "the bytes are not those that the manifest gives the CRC of"
    rule += f", in {reads} reads" if reads > 1 else ""
    where = f"row group {number}, column {', '.join(columns)}"
    return InputError(f"{uri}/{shard.path}", where, rule, "copy the file again, or write the dataset again")


def _check_arrays(path: str, columns: Sequence[Column], arrays: Arrays) -> dict[str, NDArray[Any]]:
    names = [column.name for column in columns]
    if sorted(arrays) != sorted(names):
        rule = f"the columns declared are {', '.join(sorted(names))}"
        raise InputError(f"{path}: columns", sorted(arrays), rule, "draw exactly the columns declared")
    contiguous = {name: np.ascontiguousarray(arrays[name]) for name in names}
    rows = len(contiguous[names[0]])
    if rows < 1:
        raise InputError(f"{path}: rows", rows, "a file has at least one row", "draw some rows")
    for column in columns:
        where = f"{path}: column {column.name!r}"
        array = contiguous[column.name]
        if array.dtype != np.dtype(column.dtype):
            raise InputError(where, array.dtype.str, f"dtype {column.dtype} is declared", "convert it")
        if array.shape != (rows, *column.shape):
            rule = f"shape {(rows, *column.shape)} is required, rows first"
            raise InputError(where, array.shape, rule, "draw the shape declared")
        finite = np.isfinite(array)
        if not finite.all():
            first = np.argwhere(~finite)[0]
            row, value = int(first[0]), float(array[tuple(first)])
            rule = f"row {row}: every value must be finite"
            raise InputError(where, value, rule, "correct the generator of the data")
    return contiguous


def _field(column: Column) -> Any:
    metadata = {
        "shape": json.dumps(column.shape),
        "dtype": column.dtype,
        "unit": column.unit,
        "role": column.role,
    }
    scalar = pa.from_numpy_dtype(np.dtype(column.dtype))
    kind = pa.binary(column.stored_width) if column.shape else scalar
    return pa.field(column.name, kind, nullable=False, metadata=metadata)


def _arrow_array(column: Column, array: NDArray[Any]) -> Any:
    if not column.shape:
        return pa.array(array)
    return pa.Array.from_buffers(pa.binary(column.stored_width), len(array), [None, pa.py_buffer(array)])


def _row_groups(data: memoryview) -> tuple[RowGroup, ...]:
    footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(data)))
    groups = []
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        chunks = {}
        for position in range(group.num_columns):
            chunk = group.column(position)
            # Without a dictionary the first page is the data page, header included.
            offset, length = chunk.data_page_offset, chunk.total_compressed_size
            checksum = crc32(data[offset : offset + length])
            chunks[chunk.path_in_schema] = ColumnChunk(offset, length, checksum)
        first = min(chunk.offset for chunk in chunks.values())
        last = max(chunk.offset + chunk.length for chunk in chunks.values())
        groups.append(RowGroup(group.num_rows, first, last - first, chunks))
    return tuple(groups)


def _check_layout(data: memoryview, shard: Shard, columns: Sequence[Column], arrays: Arrays) -> None:
    """Read back by byte range what was written: another release of pyarrow might lay pages out otherwise."""
    first = 0
    for group in shard.row_groups:
        for column in columns:
            written = arrays[column.name][first : first + group.rows]
            if not np.array_equal(cut(data, 0, group, [column])[column.name], written):
                raise RuntimeError(
                    f"pyarrow {pa.__version__} did not write column {column.name!r} as one page"
                )
        first += group.rows
