"""Parquet that other tools wrote, opened as a dataset: what a manifest would say of it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from pyarrow import Field

from ristune.data.columns import Column, check_columns, check_table_name, id_column
from ristune.data.document import parse_json
from ristune.data.foreign.files import ForeignShard, ForeignTable
from ristune.data.foreign.footers import File, open_parquet, read_footer
from ristune.data.foreign.tensors import SAID, column_of, to_numpy
from ristune.data.manifest import (
    MANIFEST,
    PIN,
    SPLITS,
    UNFINISHED,
    Generator,
    Manifest,
    RowGroup,
    Split,
    parse_generator,
)
from ristune.errors import InputError
from ristune.storage.access import Storage

SUFFIX = ".parquet"
TABLES = "tables"
# Footers read at once: each is little more than the wait for an answer.
THREADS = 16
# The key of a file's metadata under which an export keeps what made the dataset.
GENERATOR = b"ristune.generator"
# The generator of files that say nothing of what made them; what is converted from them keeps the name.
UNKNOWN = Generator("parquet", "", {}, 0)
# The name of row numbers that stand in where no column names rows.
ROW_ID = "row_id"
# Measured by benchmarks/foreign.py, the hash of the own format included.
SLOWDOWN = "up to 2 times"


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
    if not columns:
        rule = "no column is of use: numbers and tensors of them are, named by ASCII identifiers"
        raise InputError(f"{storage.uri}: columns", left_out, rule, "write such columns besides")
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
    tables = {}
    for path in _paths(storage, TABLES):
        table, without = _table(storage, path)
        left_out += [f"{path}: {each}" for each in without]
        if table is not None:
            tables[path.removesuffix(SUFFIX).split("/")[1]] = table
    generator = _generator(storage, everything[0])
    return Manifest(columns, tables, generator, splits, {}), _hint(storage.uri, left_out, made_up)


def _paths(storage: Storage, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in storage.list(folder) if name.endswith(SUFFIX)]


def _check_alike(storage: Storage, files: Sequence[File]) -> None:
    remedy = "write all of them from one schema"
    wanted = files[0].schema
    for file in files[1:]:
        names = file.schema.names
        if names != wanted.names:
            missing = [name for name in wanted.names if name not in names]
            more = [name for name in names if name not in wanted.names]
            found = f"{missing} missing, {more} besides" if missing or more else f"the order {names}"
            rule = f"all files have the columns of {files[0].path}, in the same order"
            raise InputError(f"{storage.uri}/{file.path}: columns", found, rule, remedy)
        for field, first in zip(file.schema, wanted, strict=True):
            said = _described_field(first)
            for key, value in _described_field(field).items():
                if value != said[key]:
                    where = f"{storage.uri}/{file.path}: column {field.name!r}: {key}"
                    rule = f"it is {said[key]!r} in {files[0].path}, and all files are alike"
                    raise InputError(where, value, rule, remedy)


def _described_field(field: Field) -> dict[str, str | None]:
    """What decides how the values of a field are read."""
    stored = {
        key.decode(errors="replace"): text.decode(errors="replace")
        for key, text in (field.metadata or {}).items()
    }
    return {"type": str(field.type), **{key: stored.get(key) for key in SAID}}


def _columns(storage: Storage, file: File) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a file, and its fields that are none, each with its type."""
    with open_parquet(storage, file) as parquet:
        first = next(parquet.iter_batches(batch_size=1), None)
    if first is None:
        remedy = "write some rows, or leave the file out"
        raise InputError(f"{storage.uri}/{file.path}: rows", 0, "at least one row is required", remedy)
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
    integers = [column for column in columns if column.dtype == "<i8" and not column.shape]
    named = [c for c in integers if c.name == "id"] + [c for c in integers if c.name.endswith("_id")]
    for column in named:
        if _unique(storage, files, column):
            return tuple(replace(c, role="id") if c == column else c for c in columns), False
    name = ROW_ID
    while any(column.name == name for column in columns):
        name += "_"
    return (*columns, Column(name, "<i8", (), "1", "id")), True


def _unique(storage: Storage, files: Sequence[File], column: Column) -> bool:
    parts = []
    for file in files:
        with open_parquet(storage, file) as parquet:
            stored = parquet.read([column.name]).column(0)
        if stored.null_count:
            return False
        where = f"{storage.uri}/{file.path}: column {column.name!r}"
        parts += [to_numpy(chunk, column, where) for chunk in stored.chunks]
    values = np.concatenate(parts)
    return np.unique(values).size == values.size


def _table(storage: Storage, path: str) -> tuple[ForeignTable | None, list[str]]:
    """A side table, none where no column is of use, and what of it is left out."""
    check_table_name(path.removesuffix(SUFFIX).split("/")[1], f"{storage.uri}/{path}")
    file = read_footer(storage, path)
    columns, left_out = _columns(storage, file)
    if not columns:
        return None, left_out
    check_columns(columns, f"{storage.uri}/{path}")
    return ForeignTable(*_described(file), columns, file.footer_sha256), left_out


def _described(file: File) -> tuple[str, int, int, str, tuple[RowGroup, ...]]:
    """What a manifest would say of a file."""
    groups = [file.footer.row_group(index) for index in range(file.footer.num_row_groups)]
    kept = tuple(RowGroup(group.num_rows, 0, group.total_byte_size, {}) for group in groups if group.num_rows)
    return file.path, file.rows, file.bytes, "", kept


def _generator(storage: Storage, file: File) -> Generator:
    stored: Mapping[bytes, bytes] = file.schema.metadata or {}
    if GENERATOR not in stored:
        return UNKNOWN
    return parse_generator(parse_json(stored[GENERATOR], f"{storage.uri}/{file.path}: {GENERATOR.decode()}"))


def _hint(uri: str, left_out: Sequence[str], made_up: bool) -> str:
    lines = [
        f"{uri} was written by other tools: it is decoded {SLOWDOWN} slower than ristune's own format, "
        "no hash is checked, and its rows must be in random order already",
    ]
    if left_out:
        lines.append(f"left out, since they are no tensors of numbers: {', '.join(left_out)}")
    if made_up:
        lines.append(
            "no column `id` or `..._id` of 64-bit integers has unique values, so rows are numbered anew"
        )
    return "\n".join([*lines, f"python -m ristune.dataset convert {uri} OUT makes a dataset of it"])
