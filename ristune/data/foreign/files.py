"""Parquet that other tools wrote, read as a dataset: slower, unverified, rows in the order they have."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ristune.data.columns import Column, check_columns, check_table_name, id_column
from ristune.data.foreign.footers import File, no_parquet, open_parquet, read_footer
from ristune.data.foreign.tensors import column_of, to_numpy
from ristune.data.manifest import (
    MANIFEST,
    PIN,
    SPLITS,
    UNFINISHED,
    Generator,
    Manifest,
    RowGroup,
    Shard,
    Split,
    Table,
)
from ristune.errors import InputError
from ristune.storage.access import Storage

SUFFIX = ".parquet"
TABLES = "tables"
# Footers read at once: each is little more than the wait for an answer.
THREADS = 16
# The key of a file's metadata under which an export keeps what made the dataset.
GENERATOR = b"ristune.generator"
# The generator of files that say nothing of what made them.
PLAIN_GENERATOR = "parquet"
# The name of row numbers that stand in where no column names rows.
ROW_ID = "row_id"
# Measured by benchmarks/foreign.py, the hash of the own format included.
SLOWDOWN = "2 to 4 times"


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


def is_foreign(storage: Storage) -> bool:
    """Whether a directory holds Parquet files in folders named as splits, and nothing of ristune's format."""
    ours = any(storage.exists(name) for name in (MANIFEST, PIN, UNFINISHED))
    return not ours and any(_paths(storage, split) for split in SPLITS)


def read_foreign(storage: Storage) -> tuple[Manifest, str]:
    """What a manifest would say, from the footers of the files.

    Args:
        storage: a directory for which `is_foreign`.

    Returns:
        The manifest, whose identity covers paths, sizes, columns and footers, and a hint for the user.

    Raises:
        InputError: a file is no Parquet, files differ in their columns, no column is of use, or the first row
            of a column is refused.
    """
    with ThreadPoolExecutor(THREADS) as executor:
        files = {
            split: list(executor.map(partial(read_footer, storage), _paths(storage, split)))
            for split in SPLITS
        }
    everything = [file for split in files.values() for file in split]
    if not any(file.rows for file in everything):
        raise InputError(storage.uri, "files without rows", "at least one row is required", "write some rows")
    _check_alike(storage, everything)
    columns, left_out = _columns(storage, next(file for file in everything if file.rows))
    columns, made_up = _with_id(storage, columns, everything)
    check_columns(columns, storage.uri)
    id_column(columns, storage.uri)
    splits, first_id = {}, 0
    for name, members in files.items():
        shards = []
        for file in members:
            if file.rows:
                shards.append(ForeignShard(*_described(file), file.footer_sha256, first_id))
                first_id += file.rows
        if shards:
            splits[name] = Split(tuple(shards), sum(shard.rows for shard in shards))
    tables = dict(_table(storage, path) for path in _paths(storage, TABLES))
    generator = _generator(storage, everything[0])
    return Manifest(columns, tables, generator, splits, {}), _hint(storage.uri, left_out, made_up)


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


def _paths(storage: Storage, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in storage.list(folder) if name.endswith(SUFFIX)]


def _check_alike(storage: Storage, files: Sequence[File]) -> None:
    wanted = [(field.name, field.type) for field in files[0].schema]
    for file in files[1:]:
        found = [(field.name, field.type) for field in file.schema]
        if found != wanted:
            shown = [f"{name}: {kind}" for name, kind in found if (name, kind) not in wanted]
            rule = f"all files have the columns of {files[0].path}"
            remedy = "write all of them from one schema"
            raise InputError(f"{storage.uri}/{file.path}: columns", shown or len(found), rule, remedy)


def _columns(storage: Storage, file: File) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a file, and its fields that are none, each with its type."""
    with open_parquet(storage, file) as parquet:
        first = next(parquet.iter_batches(batch_size=1))
    columns, left_out = [], []
    for field in file.schema:
        where = f"{storage.uri}/{file.path}: column {field.name!r}"
        column = column_of(field, first.column(field.name), where)
        if column is None:
            left_out.append(f"{field.name} ({field.type})")
        else:
            columns.append(column)
    return tuple(columns), left_out


def _with_id(
    storage: Storage, columns: Sequence[Column], files: Sequence[File]
) -> tuple[tuple[Column, ...], bool]:
    """The columns with one of role `id`, and whether that had to be made up."""
    if any(column.role == "id" for column in columns):
        return tuple(columns), False
    integers = [column.name for column in columns if column.dtype == "<i8" and not column.shape]
    named = [name for name in integers if name == "id"] + [name for name in integers if name.endswith("_id")]
    for name in named:
        if _unique(storage, files, name):
            return tuple(
                Column(c.name, c.dtype, c.shape, c.unit, "id") if c.name == name else c for c in columns
            ), False
    name = ROW_ID
    while any(column.name == name for column in columns):
        name += "_"
    return (*columns, Column(name, "<i8", (), "1", "id")), True


def _unique(storage: Storage, files: Sequence[File], name: str) -> bool:
    chunks = []
    for file in files:
        with open_parquet(storage, file) as parquet:
            chunks += parquet.read([name]).column(0).chunks
    values = pa.chunked_array(chunks, pa.int64())
    return not values.null_count and len(values.unique()) == len(values)


def _table(storage: Storage, path: str) -> tuple[str, ForeignTable]:
    name = path.removesuffix(SUFFIX).split("/")[1]
    check_table_name(name, f"{storage.uri}/{path}")
    file = read_footer(storage, path)
    columns, _ = _columns(storage, file)
    check_columns(columns, f"{storage.uri}/{path}")
    return name, ForeignTable(*_described(file), columns, file.footer_sha256)


def _described(file: File) -> tuple[str, int, int, str, tuple[RowGroup, ...]]:
    """What a manifest would say of a file."""
    groups = [file.footer.row_group(index) for index in range(file.footer.num_row_groups)]
    kept = tuple(RowGroup(group.num_rows, 0, group.total_byte_size, {}) for group in groups if group.num_rows)
    return file.path, file.rows, file.bytes, "", kept


def _generator(storage: Storage, file: File) -> Generator:
    stored: Mapping[bytes, bytes] = file.schema.metadata or {}
    if GENERATOR not in stored:
        return Generator(PLAIN_GENERATOR, "", {}, 0)
    try:
        return Generator(**json.loads(stored[GENERATOR]))
    except (ValueError, TypeError) as error:
        rule = f"{GENERATOR.decode()} in the metadata of a file is what `dataset export` wrote"
        raise InputError(
            f"{storage.uri}/{file.path}", str(error), rule, "export the dataset again"
        ) from error


def _hint(uri: str, left_out: Sequence[str], made_up: bool) -> str:
    lines = [
        f"{uri} was written by other tools: it is decoded {SLOWDOWN} slower than ristune's own format, "
        "no hash is checked, and its rows must be in random order already",
    ]
    if left_out:
        lines.append(f"left out, since they are no tensors of numbers: {', '.join(left_out)}")
    if made_up:
        lines.append("no int64 column `id` or `..._id` has unique values, so rows are numbered anew")
    return "\n".join([*lines, f"python -m ristune.dataset convert {uri} OUT makes a dataset of it"])
