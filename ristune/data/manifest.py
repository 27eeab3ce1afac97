"""What a dataset says of itself: the manifest, its canonical bytes and its identity."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ristune.data.columns import Column, check_columns, check_table_name, id_column
from ristune.data.document import Node, canonical_json, parse_json
from ristune.errors import InputError

MANIFEST = "manifest.json"
# The identity beside the manifest, as `sha256sum --check` reads it: an altered manifest is found by it.
PIN = "manifest.sha256"
# There from the first byte of a dataset until its manifest is: what lies beside it may be overwritten.
UNFINISHED = "unfinished"
SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ColumnChunk:
    """One column of one row group: its byte range, page header included, and the CRC-32 of these bytes."""

    offset: int
    length: int
    crc32: int


@dataclass(frozen=True)
class RowGroup:
    """The byte range of a row group in its file and of each column in it.

    Attributes:
        rows: the number of rows.
        offset: the first byte, counted from the start of the file.
        bytes: the length.
        columns: a byte range for each column by name.
    """

    rows: int
    offset: int
    bytes: int
    columns: Mapping[str, ColumnChunk]

    def values(self, column: Column) -> int:
        """Where in the file a column's values begin: they end its chunk, after the header of a page."""
        chunk = self.columns[column.name]
        return chunk.offset + chunk.length - self.rows * column.stored_width


@dataclass(frozen=True)
class Shard:
    """One Parquet file.

    Attributes:
        path: where it is, relative to the dataset, parts joined by `/`.
        rows: the number of rows.
        bytes: the size of the file.
        sha256: the hash of the file, in hexadecimal.
        row_groups: its row groups in order.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    row_groups: tuple[RowGroup, ...]


@dataclass(frozen=True)
class Table(Shard):
    """A side table that is read whole; samples point into it by a column of row numbers.

    Attributes:
        columns: the columns of this table.
    """

    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Split:
    """The shards of one split, in order, and the number of rows in all of them."""

    shards: tuple[Shard, ...]
    rows: int


@dataclass(frozen=True)
class Generator:
    """What made the dataset.

    Attributes:
        name: the name of the simulator.
        version: its version.
        parameters: its parameters, a JSON object.
        seed: the seed of the dataset.
    """

    name: str
    version: str
    parameters: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Statistics:
    """Population statistics over all elements of a column in the train split, in the column's unit."""

    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class Manifest:
    """All there is to know of a dataset without opening a shard.

    Attributes:
        columns: the columns of every shard.
        tables: side tables by name.
        generator: what made the dataset.
        splits: splits by name; a split without rows is left out.
        statistics: by column, over the train split; empty when there is none. The id has no statistics.
        schema_version: the version of this format.
    """

    columns: tuple[Column, ...]
    tables: Mapping[str, Table]
    generator: Generator
    splits: Mapping[str, Split]
    statistics: Mapping[str, Statistics]
    schema_version: int = SCHEMA_VERSION

    def encode(self) -> bytes:
        """The canonical bytes, which are the bytes that are stored."""
        return canonical_json(asdict(self))

    @cached_property
    def dataset_id(self) -> str:
        """The sha256 of the canonical bytes, in hexadecimal."""
        return hashlib.sha256(self.encode()).hexdigest()


def pin(dataset_id: str) -> bytes:
    """What is stored under `PIN` for a dataset of this identity."""
    return f"{dataset_id}  {MANIFEST}\n".encode("ascii")


def check_pin(manifest: Manifest, stored: bytes, uri: str) -> None:
    """Hold a manifest against the identity that is stored beside it.

    Args:
        manifest: as read.
        stored: the bytes under `PIN`.
        uri: the dataset, as it is to be named in errors.

    Raises:
        InputError: they differ.
    """
    if stored != pin(manifest.dataset_id):
        rule = f"it must be the sha256 of {MANIFEST}, {manifest.dataset_id}: one of the two files was altered"
        shown = stored[:80].decode("ascii", errors="replace").strip()
        raise InputError(f"{uri}/{PIN}", shown, rule, "copy both files again, or write the dataset again")


def parse(data: bytes, uri: str) -> Manifest:
    """Read a manifest and check it whole, so that nothing later needs to.

    Args:
        data: the stored bytes.
        uri: the dataset, as it is to be named in errors.

    Raises:
        InputError: the bytes are not JSON or not its canonical form, the version is another one, a key is
            missing, unknown or of the wrong type, or numbers contradict each other.
    """
    document = f"{uri}/{MANIFEST}"
    root = parse_json(data, document)
    version = root.members().get("schema_version")
    if version is None:
        raise root.error("the key 'schema_version' is required in the manifest of a dataset")
    if version.integer() != SCHEMA_VERSION:
        raise version.error(f"this version of ristune reads schema version {SCHEMA_VERSION} only")
    keys = ("columns", "tables", "generator", "splits", "statistics", "schema_version")
    columns, tables, generator, splits, statistics, _ = root.fields(*keys)
    sample = _columns(columns)
    id_column(sample, document)
    names = {column.name for column in sample}
    for name, node in statistics.members().items():
        if name not in names:
            raise node.error("statistics are of columns only")
    if not splits.members():
        raise splits.error(f"at least one split is required, of {', '.join(SPLITS)}")
    for name, node in splits.members().items():
        if name not in SPLITS:
            raise node.error(f"a split is one of {', '.join(SPLITS)}")
    for name in tables.members():
        check_table_name(name, document)
    manifest = Manifest(
        columns=sample,
        tables={name: _table(node) for name, node in tables.members().items()},
        generator=parse_generator(generator),
        splits={name: _split(node, sample) for name, node in splits.members().items()},
        statistics={name: _statistics(node) for name, node in statistics.members().items()},
    )
    if manifest.encode() != data:
        raise root.error("the manifest is stored in canonical JSON, whose hash is the dataset's identity")
    return manifest


def _columns(node: Node) -> tuple[Column, ...]:
    columns = []
    for element in node.elements():
        name, dtype, shape, unit, role = element.fields("name", "dtype", "shape", "unit", "role")
        sizes = tuple(size.integer(1) for size in shape.elements())
        columns.append(Column(name.text(), dtype.text(), sizes, unit.text(), role.text()))
    check_columns(columns, node.document)
    return tuple(columns)


def parse_generator(node: Node) -> Generator:
    """Read what made a dataset.

    Raises:
        InputError: a key is missing, unknown or of the wrong type.
    """
    name, version, parameters, seed = node.fields("name", "version", "parameters", "seed")
    values = {key: member.value for key, member in parameters.members().items()}
    # Seeds of numpy have any number of bits.
    return Generator(name.text(), version.text(), values, seed.integer(maximum=None))


def _statistics(node: Node) -> Statistics:
    mean, std, low, high = node.fields("mean", "std", "min", "max")
    return Statistics(mean.number(), std.number(), low.number(), high.number())


def _split(node: Node, columns: Sequence[Column]) -> Split:
    shards_node, rows = node.fields("shards", "rows")
    shards = tuple(
        _shard(list(shard.fields("path", "rows", "bytes", "sha256", "row_groups")), columns)
        for shard in shards_node.elements()
    )
    if rows.integer(1) != sum(shard.rows for shard in shards):
        raise rows.error("the rows of a split are the sum of its shards' rows")
    return Split(shards, rows.integer())


def _table(node: Node) -> Table:
    *parts, columns_node = node.fields("path", "rows", "bytes", "sha256", "row_groups", "columns")
    columns = _columns(columns_node)
    shard = _shard(parts, columns)
    return Table(shard.path, shard.rows, shard.bytes, shard.sha256, shard.row_groups, columns)


def _shard(parts: Sequence[Node], columns: Sequence[Column]) -> Shard:
    path, rows, size, sha256, row_groups = parts
    # A path that leaves the dataset would read, or one day remove, someone else's files.
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", path.text(), re.ASCII):
        raise path.error("a path inside the dataset is required, of letters, digits and _ . - /")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256.text()):
        raise sha256.error("64 hexadecimal digits are required")
    groups = tuple(_row_group(node, columns, size.integer()) for node in row_groups.elements())
    if rows.integer(1) != sum(group.rows for group in groups):
        raise rows.error("the rows of a shard are the sum of its row groups' rows")
    return Shard(path.text(), rows.integer(), size.integer(), sha256.text(), groups)


def _row_group(node: Node, columns: Sequence[Column], size: int) -> RowGroup:
    rows, offset, length, chunks_node = node.fields("rows", "offset", "bytes", "columns")
    first, last = offset.integer(), offset.integer() + length.integer()
    if last > size:
        raise node.error(f"bytes {first} to {last} lie beyond the {size} bytes of the file")
    chunks = {}
    nodes = chunks_node.fields(*(column.name for column in columns))
    for column, chunk_node in zip(columns, nodes, strict=True):
        start, chunk_length, crc32 = (
            part.integer() for part in chunk_node.fields("offset", "length", "crc32")
        )
        if start < first or start + chunk_length > last:
            raise chunk_node.error(f"a column lies inside its row group, bytes {first} to {last}")
        if chunk_length < rows.integer(1) * column.stored_width:
            needed = rows.integer() * column.stored_width
            raise chunk_node.error(f"{needed} bytes are needed for {rows.value} rows, not {chunk_length}")
        chunks[column.name] = ColumnChunk(start, chunk_length, crc32)
    return RowGroup(rows.integer(1), first, length.integer(), chunks)
