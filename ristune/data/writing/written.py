"""Writing one shard, and the record of it from which an interrupted call goes on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ristune.data.columns import Column, id_column
from ristune.data.document import Node, canonical_json, parse_json
from ristune.data.manifest import Generator, Manifest, Shard, parse
from ristune.data.shards import decode, encode
from ristune.data.writing.claim import check_ours
from ristune.data.writing.ids import Ids, check_unique
from ristune.data.writing.plan import record_path
from ristune.data.writing.source import Part, Progress, Source, as_columns
from ristune.data.writing.statistics import Moments, moments
from ristune.errors import InputError
from ristune.storage.access import Storage, open_storage


@dataclass(frozen=True)
class Record:
    """What is kept of a shard once its samples have left memory.

    Attributes:
        part: which shard it is.
        shard: what the manifest says of it.
        moments: of every column but the id, by name.
    """

    part: Part
    shard: Shard
    moments: Mapping[str, Moments]

    def encode(self) -> bytes:
        """The bytes that are stored beside an unfinished dataset."""
        found = {name: asdict(each) for name, each in self.moments.items()}
        return canonical_json({"shard": asdict(self.shard), "moments": found})


def write_part(
    uri: str, source: Source, token: str, part: Part, progress: Progress | None
) -> tuple[Record, Ids]:
    """Write one shard and then its record; it depends on no other shard.

    Args:
        uri: the dataset, marked as unfinished.
        source: where the samples come from.
        token: of the writer that marked it.
        part: the shard.
        progress: called with the number of samples whenever so many more are there.

    Returns:
        The record, and the ids of the rows, sorted, [rows], int64.

    Raises:
        InputError: the source gives what it does not declare, a value is not finite, an id repeats,
            another writer has taken the place, or the dataset is not there as this machine sees it.
    """
    storage = open_storage(uri)
    check_ours(storage, token)
    columns = as_columns(source.columns, part.path)
    arrays = source.arrays(part, progress)
    data, shard = encode(part.path, columns, arrays)
    _check_rows(part, shard)
    ids: Ids = np.sort(arrays[id_column(columns, part.path).name])
    check_unique(storage.uri, part.split, part.path, ids)
    record = Record(part, shard, {name: moments(arrays[name]) for name in _summarised(columns)})
    # Drawing took its time: by now another writer may have finished a dataset here.
    check_ours(storage, token)
    storage.write_atomic(part.path, data)
    check_ours(storage, token)
    storage.write_atomic(record_path(part), record.encode())
    return record, ids


def recall_part(
    uri: str, columns: Sequence[Column], part: Part, progress: Progress | None
) -> tuple[Record, Ids] | None:
    """What `write_part` returned for a shard that has its record; None where the shard is not whole.

    Args:
        uri: the dataset.
        columns: the columns of a sample.
        part: the shard.
        progress: never called; it is there so that a mapper can run this.

    Raises:
        InputError: the record is not what `write_part` writes.
    """
    storage = open_storage(uri)
    path = record_path(part)
    node = parse_json(storage.read(path), f"{storage.uri}/{path}")
    shard_node, moments_node = node.fields("shard", "moments")
    shard = _shard(shard_node, columns, part)
    names = _summarised(columns)
    nodes = zip(names, moments_node.fields(*names), strict=True)
    record = Record(part, shard, {name: _moments(each) for name, each in nodes})
    data = _whole(storage, shard)
    if data is None:
        return None
    name = id_column(columns, part.path).name
    ids = decode(data, shard, [each for each in columns if each.name == name], storage.uri)[name]
    return record, np.sort(ids)


def _whole(storage: Storage, shard: Shard) -> bytes | None:
    """The bytes of a shard, if they are there and the ones that were written."""
    if not storage.exists(shard.path):
        return None
    data = storage.read(shard.path)
    return data if hashlib.sha256(data).hexdigest() == shard.sha256 else None


def _summarised(columns: Sequence[Column]) -> list[str]:
    """The columns that have statistics."""
    return [column.name for column in columns if column.role != "id"]


def _shard(node: Node, columns: Sequence[Column], part: Part) -> Shard:
    """A shard as a record gives it, checked by the rules of a manifest: as the only one of a dataset."""
    blank = Manifest(tuple(columns), {}, Generator("", "", {}, 0), {}, {})
    split = {"rows": part.rows, "shards": [node.value]}
    around = {**asdict(blank), "splits": {part.split: split}}
    shard: Shard = parse(canonical_json(around), node.document).splits[part.split].shards[0]
    if shard.path != part.path:
        raise node.error(f"the shard of this record is {part.path}")
    return shard


def _moments(node: Node) -> Moments:
    count, mean, std, low, high = node.fields("count", "mean", "std", "min", "max")
    return Moments(count.integer(1), mean.number(), std.number(), low.number(), high.number())


def _check_rows(part: Part, shard: Shard) -> None:
    if shard.rows != part.rows:
        raise InputError(f"{part.path}: rows", shard.rows, f"{part.rows} are wanted", "correct the source")
