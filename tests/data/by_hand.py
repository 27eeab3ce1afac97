"""Datasets that others wrote, with the faults they may have."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ristune.data.columns import Column
from ristune.data.manifest import MANIFEST, PIN, Generator, Manifest, Shard, Split, pin
from ristune.data.shards import _row_groups
from ristune.data.verify import verify
from ristune.storage.access import open_storage

COLUMNS = (
    Column("x", "<f4", (3,), "V", "input"),
    Column("n", "<i4", (), "1", "label"),
    Column("sample_id", "<i8", (), "1", "id"),
)


FORM = {
    "row_group_size": 8,
    "compression": "NONE",
    "use_dictionary": False,
    "column_encoding": "PLAIN",
    "write_statistics": ["n", "sample_id"],
    "write_page_checksum": True,
}


def by_hand(root, arrays, statistics=None, fields=None, alter=bytes, describe=lambda shard: shard, **form):
    """A dataset as someone without ristune would write it, checked by nothing."""
    splits = {}
    for split, values in arrays.items():
        stored = [
            pa.field(
                c.name,
                pa.binary(12) if c.shape else pa.from_numpy_dtype(c.dtype),
                nullable=False,
                metadata={"shape": json.dumps(c.shape), "dtype": c.dtype, "unit": c.unit, "role": c.role},
            )
            for c in COLUMNS
        ]
        stored = [(fields or {}).get(each.name, lambda field: field)(each) for each in stored]
        x = pa.array([row.tobytes() for row in values["x"]], stored[0].type)
        table = pa.table([x, values["n"], values["sample_id"]], schema=pa.schema(stored))
        path = root / split / "0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path, **{**FORM, **form})
        data = alter(path.read_bytes())
        path.write_bytes(data)
        groups = _row_groups(memoryview(data))
        shard = Shard(f"{split}/0.parquet", len(x), len(data), hashlib.sha256(data).hexdigest(), groups)
        splits[split] = Split((describe(shard),), len(x))
    generator = Generator("hand", "1", {}, 0)
    stored = Manifest(COLUMNS, {}, generator, splits, statistics or {}).encode()
    (root / MANIFEST).write_bytes(stored)
    (root / PIN).write_bytes(pin(hashlib.sha256(stored).hexdigest()))
    return root


def sample(rows, first=0):
    rng = np.random.default_rng(first)
    return {
        "x": rng.normal(size=(rows, 3)).astype("<f4"),
        "n": rng.integers(0, 5, rows).astype("<i4"),
        "sample_id": np.arange(first, first + rows),
    }


def found(root):
    return [str(finding) for finding in verify(open_storage(str(root)))]
