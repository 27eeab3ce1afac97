"""A dataset whose values were changed on disk, hashes and all, as no writer of ristune would."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from zlib_ng.zlib_ng import crc32

from ristune.data.dataset import open_dataset
from ristune.data.manifest import MANIFEST, PIN, Shard, Split, pin

Change = Callable[[dict[str, np.ndarray]], None]


def altered(source: str, root: Path, split: str, change: Change) -> str:
    """A copy of a dataset of one shard a split; `change` writes into the columns of `split`."""
    shutil.copytree(source, root)
    dataset = open_dataset(str(root))
    manifest = dataset.manifest
    (shard,) = manifest.splits[split].shards
    (group,) = shard.row_groups
    data = bytearray((root / shard.path).read_bytes())
    arrays = {}
    for column in manifest.columns:
        flat = np.frombuffer(
            data, column.stored_dtype, group.rows * column.elements, offset=group.values(column)
        )
        arrays[column.name] = flat.reshape(group.rows, *column.shape)
    change(arrays)
    (root / shard.path).write_bytes(data)
    chunks = {
        name: replace(chunk, crc32=crc32(bytes(data[chunk.offset : chunk.offset + chunk.length])))
        for name, chunk in group.columns.items()
    }
    told: Shard = replace(
        shard, sha256=hashlib.sha256(data).hexdigest(), row_groups=(replace(group, columns=chunks),)
    )
    splits: Mapping[str, Split] = {**manifest.splits, split: Split((told,), shard.rows)}
    stored = replace(manifest, splits=splits).encode()
    (root / MANIFEST).write_bytes(stored)
    (root / PIN).write_bytes(pin(hashlib.sha256(stored).hexdigest()))
    return str(root)
