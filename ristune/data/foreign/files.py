"""Rows of Parquet that other tools wrote: slower to read, unverified, every value checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ristune.data.columns import Column
from ristune.data.foreign.footers import no_parquet, open_parquet, read_footer
from ristune.data.foreign.tensors import to_numpy
from ristune.data.manifest import Shard, Table
from ristune.errors import InputError
from ristune.storage.access import Storage


@dataclass(frozen=True)
class ForeignShard(Shard):
    """A file of a split; `sha256` is empty, and row groups have no columns.

    Attributes:
        footer_sha256: the hash of its footer, a part of the identity of the dataset.
        first_id: the id of its first row, where rows are numbered here.
    """

    footer_sha256: str
    first_id: int


@dataclass(frozen=True)
class ForeignTable(Table):
    """A side table; `sha256` is empty, and row groups have no columns.

    Attributes:
        footer_sha256: the hash of its footer.
    """

    footer_sha256: str


Foreign = ForeignShard | ForeignTable


def decode_foreign(
    data: bytes | memoryview, shard: Shard, columns: Sequence[Column], uri: str = ""
) -> dict[str, NDArray[Any]]:
    """Read columns of a file; see `shards.decode`, whose contract it keeps but for the hash.

    Raises:
        InputError: the file is another one than before, or a value is missing, not finite, or of another
            shape than its column.
    """
    name = f"{uri}/{shard.path}" if uri else shard.path
    if len(data) != shard.bytes:
        rule = f"it had {shard.bytes} bytes when the dataset was opened"
        raise InputError(name, f"{len(data)} bytes", rule, "start again once nobody writes to the dataset")
    try:
        parquet = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), page_checksum_verification=True)
        table = parquet.read(columns=_stored(parquet, columns))
    except (pa.ArrowException, OSError) as error:
        raise no_parquet(name, error) from error
    return _arrays(table, shard, 0, columns, name)


def read_foreign_group(
    storage: Storage, shard: Shard, number: int, columns: Sequence[Column]
) -> dict[str, NDArray[Any]]:
    """Read columns of one row group by ranges.

    Args:
        storage: the dataset.
        shard: a file of it.
        number: which of its row groups, those without rows left out.
        columns: the columns to read.

    Raises:
        InputError: as for `decode_foreign`.
    """
    file = read_footer(storage, shard.path)
    name = f"{storage.uri}/{shard.path}"
    if not isinstance(shard, Foreign) or file.footer_sha256 != shard.footer_sha256:
        rule = "its footer is another one than when the dataset was opened"
        raise InputError(name, file.footer_sha256, rule, "start again once nobody writes to the dataset")
    sizes = [file.footer.row_group(index).num_rows for index in range(file.footer.num_row_groups)]
    group = [index for index, rows in enumerate(sizes) if rows][number]
    with open_parquet(storage, file) as parquet:
        table = parquet.read_row_group(group, columns=_stored(parquet, columns))
    return _arrays(table, shard, sum(sizes[:group]), columns, name)


def _stored(parquet: pq.ParquetFile, columns: Sequence[Column]) -> list[str]:
    """The names of columns that are in the file; row numbers are not."""
    there = parquet.schema_arrow.names
    return [column.name for column in columns if column.name in there]


def _arrays(
    table: pa.Table, shard: Shard, first: int, columns: Sequence[Column], name: str
) -> dict[str, NDArray[Any]]:
    """Columns of rows from `first` on of a file."""
    arrays = {}
    for column in columns:
        if column.name in table.column_names:
            where = f"{name}: column {column.name!r}"
            arrays[column.name] = _values(table.column(column.name), column, first, where)
        elif isinstance(shard, ForeignShard):
            start = shard.first_id + first
            arrays[column.name] = np.arange(start, start + table.num_rows, dtype=np.int64)
    return arrays


def _values(chunked: Any, column: Column, before: int, where: str) -> NDArray[Any]:
    array = np.empty((len(chunked), *column.shape), column.dtype)
    first = 0
    for chunk in chunked.chunks:
        start = before + first
        part = to_numpy(chunk, column, f"{where} from row {start} on" if start else where)
        finite = np.isfinite(part)
        if not finite.all():
            at = np.argwhere(~finite)[0]
            rule = f"row {start + int(at[0])}: every value must be finite"
            raise InputError(where, float(part[tuple(at)]), rule, "leave such rows out, or fill values in")
        array[first : first + len(part)] = part
        first += len(part)
    return array
