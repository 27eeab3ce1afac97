"""A dataset as Parquet that other tools read: fixed-size lists, split byte streams, zstd."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ristune.data.columns import Column
from ristune.data.dataset import Dataset
from ristune.data.foreign.opening import GENERATOR, SUFFIX, TABLES
from ristune.data.foreign.tensors import metadata_of
from ristune.data.manifest import SPLITS, UNFINISHED, Shard
from ristune.data.shards import row_bytes
from ristune.data.writing.claim import sole_writer
from ristune.errors import InputError
from ristune.storage.access import Storage, open_storage

# Other readers decode a row group at a time, one thread each.
ROW_GROUP_BYTES = 64 * 2**20
# DuckDB reads split byte streams of these only, half floats as they are.
SPLIT_STREAMS = ("<f4", "<f8")
# What the file `UNFINISHED` holds: what another command has begun there is not overwritten.
MARK = b"export"


def export(dataset: Dataset, uri: str, progress: Callable[[int], None] | None = None) -> int:
    """Write a dataset as interoperable Parquet; what it is opened as again has the same values and ids.

    Args:
        dataset: what to write.
        uri: the directory to write to, new or empty.
        progress: called with the number of rows after every file.

    Returns:
        The bytes written.

    Raises:
        InputError: the directory holds something else or cannot be written to, another process writes to
            it, or a shard is damaged.
    """
    storage = open_storage(uri)
    storage.ensure_writable()
    with sole_writer(storage):
        return _export(dataset, storage, progress)


def _export(dataset: Dataset, storage: Storage, progress: Callable[[int], None] | None) -> int:
    _claim(storage)
    generator = json.dumps(asdict(dataset.manifest.generator), allow_nan=False)
    size = 0
    for path, shard, columns in _files(dataset):
        arrays = dataset.decode(dataset.storage.read(shard.path), shard, columns)
        data = encode_interoperable(columns, arrays, generator)
        storage.write_atomic(path, data)
        size += len(data)
        if progress is not None and path.split("/")[0] != TABLES:
            progress(shard.rows)
    storage.remove_tree(UNFINISHED)
    return size


def encode_interoperable(
    columns: Sequence[Column], arrays: Mapping[str, NDArray[Any]], generator: str
) -> memoryview:
    """Lay out one file.

    Args:
        columns: what to write, in this order.
        arrays: one array [rows, *shape] for each column.
        generator: what made the dataset, as JSON, for the metadata of the file.

    Returns:
        The bytes of a Parquet file in which a tensor is a flat fixed-size list, its shape in the metadata.
    """
    stored = [_arrow_array(column, arrays[column.name]) for column in columns]
    fields = [
        pa.field(column.name, array.type, nullable=False, metadata=metadata_of(column))
        for column, array in zip(columns, stored, strict=True)
    ]
    schema = pa.schema(fields, metadata={GENERATOR: generator})
    leaves = {
        f"{column.name}.list.element" if column.shape else column.name: column.dtype for column in columns
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(stored, schema=schema),
        sink,
        row_group_size=max(1, ROW_GROUP_BYTES // row_bytes(columns)),
        compression="zstd",
        use_dictionary=False,
        column_encoding={
            leaf: "BYTE_STREAM_SPLIT" if dtype in SPLIT_STREAMS else "PLAIN" for leaf, dtype in leaves.items()
        },
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


def _claim(storage: Storage) -> None:
    """Make sure that nothing of value is there, and mark the directory as unfinished."""
    names = storage.list("")
    if names and not (UNFINISHED in names and storage.read(UNFINISHED) == MARK):
        rule = f"a new or empty directory is required, this one holds {names[0]!r}"
        raise InputError("OUT", storage.uri, rule, "choose another directory")
    storage.write_atomic(UNFINISHED, MARK)
    for name in (*SPLITS, TABLES):
        storage.remove_tree(name)


def _files(dataset: Dataset) -> Iterator[tuple[str, Shard, Sequence[Column]]]:
    """Where each file goes, what it is, and its columns."""
    for name, split in dataset.manifest.splits.items():
        for index, shard in enumerate(split.shards):
            yield f"{name}/{index:05d}{SUFFIX}", shard, dataset.manifest.columns
    for name, table in dataset.manifest.tables.items():
        yield f"{TABLES}/{name}{SUFFIX}", table, table.columns


def _arrow_array(column: Column, array: NDArray[Any]) -> Any:
    if not column.shape:
        return pa.array(array)
    elements = pa.array(np.ascontiguousarray(array).reshape(-1))
    item = pa.field("element", elements.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(elements, type=pa.list_(item, column.elements))
