"""Parquet that other tools wrote, read as a dataset: slower, unverified, rows in the order they have."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ristune.data.columns import Column, check_columns, id_column
from ristune.data.manifest import SPLITS, Generator, Manifest, Shard, Split, Table
from ristune.data.storage import Storage
from ristune.data.tensors import column_of, to_numpy
from ristune.errors import InputError

SUFFIX = ".parquet"
TABLES = "tables"
# The key of a file's metadata under which an export keeps what made the dataset.
GENERATOR = b"ristune.generator"
# The generator of files that say nothing of what made them.
PLAIN_GENERATOR = "parquet"
# The name of row numbers that stand in where no column names rows.
ROW_ID = "row_id"
# Measured: docs/data-format.md.
SLOWDOWN = "5 times"


@dataclass(frozen=True)
class ForeignShard(Shard):
    """A file of a split; `sha256` is empty, and there are no row groups.

    Attributes:
        footer_sha256: the hash of its footer, a part of the identity of the dataset.
        first_id: the id of its first row, where rows are numbered here.
    """

    footer_sha256: str
    first_id: int


@dataclass(frozen=True)
class ForeignTable(Table):
    """A side table; `sha256` is empty, and there are no row groups.

    Attributes:
        footer_sha256: the hash of its footer.
    """

    footer_sha256: str


@dataclass(frozen=True)
class File:
    """What is learnt of a file before it is read.

    Attributes:
        path: relative to the dataset.
        bytes: its size.
        footer_sha256: the hash of its footer.
        parquet: its reader.
    """

    path: str
    bytes: int
    footer_sha256: str
    parquet: pq.ParquetFile

    @property
    def rows(self) -> int:
        """The number of its rows."""
        return int(self.parquet.metadata.num_rows)


def is_foreign(storage: Storage) -> bool:
    """Whether a directory holds Parquet files in folders named as splits; of manifests it knows nothing."""
    return any(_paths(storage, split) for split in SPLITS)


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
    files = {split: [_open(storage, path) for path in _paths(storage, split)] for split in SPLITS}
    everything = [file for split in files.values() for file in split]
    if not any(file.rows for file in everything):
        raise InputError(storage.uri, "files without rows", "at least one row is required", "write some rows")
    _check_alike(storage, everything)
    columns, left_out = _columns(storage, next(file for file in everything if file.rows))
    columns, made_up = _with_id(columns, everything)
    check_columns(columns, storage.uri)
    id_column(columns, storage.uri)
    splits, first_id = {}, 0
    for name, members in files.items():
        shards = []
        for file in members:
            if file.rows:
                shards.append(
                    ForeignShard(file.path, file.rows, file.bytes, "", (), file.footer_sha256, first_id)
                )
                first_id += file.rows
        if shards:
            splits[name] = Split(tuple(shards), sum(shard.rows for shard in shards))
    tables = {
        path.removesuffix(SUFFIX).split("/")[1]: _table(storage, path) for path in _paths(storage, TABLES)
    }
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
        stored = [column.name for column in columns if column.name in parquet.schema_arrow.names]
        table = parquet.read(columns=stored)
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(name, error) from error
    arrays = {}
    for column in columns:
        if column.name in stored:
            where = f"{name}: column {column.name!r}"
            arrays[column.name] = _values(table.column(column.name), column, where)
        elif isinstance(shard, ForeignShard):
            arrays[column.name] = np.arange(shard.first_id, shard.first_id + shard.rows, dtype=np.int64)
    return arrays


def _values(chunked: Any, column: Column, where: str) -> NDArray[Any]:
    array = np.empty((len(chunked), *column.shape), column.dtype)
    first = 0
    for chunk in chunked.chunks:
        part = to_numpy(chunk, column, where)
        finite = np.isfinite(part)
        if not finite.all():
            at = np.argwhere(~finite)[0]
            rule = f"row {first + int(at[0])}: every value must be finite"
            raise InputError(where, float(part[tuple(at)]), rule, "leave such rows out, or fill values in")
        array[first : first + len(part)] = part
        first += len(part)
    return array


def _paths(storage: Storage, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in storage.list(folder) if name.endswith(SUFFIX)]


def _open(storage: Storage, path: str) -> File:
    data = storage.read(path)
    # The last 8 bytes are the length of the footer and a mark.
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(f"{storage.uri}/{path}", error) from error
    return File(path, len(data), hashlib.sha256(footer).hexdigest(), parquet)


def _no_parquet(name: str, error: Exception) -> InputError:
    text = str(error).splitlines()[0]
    return InputError(name, text, "a Parquet file that can be read is required", "write the file again")


def _check_alike(storage: Storage, files: Sequence[File]) -> None:
    wanted = [(field.name, field.type) for field in files[0].parquet.schema_arrow]
    for file in files[1:]:
        found = [(field.name, field.type) for field in file.parquet.schema_arrow]
        if found != wanted:
            shown = [f"{name}: {kind}" for name, kind in found if (name, kind) not in wanted]
            rule = f"all files have the columns of {files[0].path}"
            remedy = "write all of them from one schema"
            raise InputError(f"{storage.uri}/{file.path}: columns", shown or len(found), rule, remedy)


def _columns(storage: Storage, file: File) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a file, and its fields that are none, each with its type."""
    try:
        first = next(file.parquet.iter_batches(batch_size=1, row_groups=[0]))
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(f"{storage.uri}/{file.path}", error) from error
    columns, left_out = [], []
    for field in file.parquet.schema_arrow:
        where = f"{storage.uri}/{file.path}: column {field.name!r}"
        column = column_of(field, first.column(field.name), where)
        if column is None:
            left_out.append(f"{field.name} ({field.type})")
        else:
            columns.append(column)
    return tuple(columns), left_out


def _with_id(columns: Sequence[Column], files: Sequence[File]) -> tuple[tuple[Column, ...], bool]:
    """The columns with one of role `id`, and whether that had to be made up."""
    if any(column.role == "id" for column in columns):
        return tuple(columns), False
    integers = [column.name for column in columns if column.dtype == "<i8" and not column.shape]
    named = [name for name in integers if name == "id"] + [name for name in integers if name.endswith("_id")]
    for name in named:
        if _unique(files, name):
            return tuple(
                Column(c.name, c.dtype, c.shape, c.unit, "id") if c.name == name else c for c in columns
            ), False
    name = ROW_ID
    while any(column.name == name for column in columns):
        name += "_"
    return (*columns, Column(name, "<i8", (), "1", "id")), True


def _unique(files: Sequence[File], name: str) -> bool:
    values = pa.chunked_array(
        [chunk for file in files for chunk in file.parquet.read([name]).column(0).chunks]
    )
    return not values.null_count and len(values.unique()) == len(values)


def _table(storage: Storage, path: str) -> ForeignTable:
    file = _open(storage, path)
    columns, _ = _columns(storage, file)
    check_columns(columns, f"{storage.uri}/{path}")
    return ForeignTable(path, file.rows, file.bytes, "", (), columns, file.footer_sha256)


def _generator(storage: Storage, file: File) -> Generator:
    stored: Mapping[bytes, bytes] = file.parquet.schema_arrow.metadata or {}
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
        f"{uri} was written by other tools: it is decoded about {SLOWDOWN} slower than ristune's own format, "
        "no hash is checked, and its rows must be in random order already",
    ]
    if left_out:
        lines.append(f"left out, since they are no tensors of numbers: {', '.join(left_out)}")
    if made_up:
        lines.append("no int64 column `id` or `..._id` has unique values, so rows are numbered anew")
    return "\n".join([*lines, f"python -m ristune.dataset convert {uri} OUT makes a dataset of it"])
