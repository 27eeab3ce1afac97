import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ristune.data.dataset import open_dataset


@pytest.fixture
def damaged(toy_dataset, tmp_path):
    """A copy with a stray file and a flipped byte in the last value of a column."""
    root = tmp_path / "damaged"
    shutil.copytree(toy_dataset, root)
    (root / "notes.txt").write_text("mine")
    shard = open_dataset(str(root)).manifest.splits["val"].shards[0]
    chunk = shard.row_groups[0].columns["target"]
    data = bytearray((root / shard.path).read_bytes())
    data[chunk.offset + chunk.length - 1] ^= 1
    (root / shard.path).write_bytes(data)
    return root


@pytest.fixture
def foreign(tmp_path):
    """Parquet for the toy task by other means: lists, three files, no id."""
    for split, rows in (("train", 64), ("val", 32), ("test", 32)):
        (tmp_path / "foreign" / split).mkdir(parents=True)
        rng = np.random.default_rng(rows)
        table = pa.table(
            {
                "x": pa.array(rng.normal(size=(rows, 2)).tolist(), pa.list_(pa.float32())),
                "target": rng.normal(size=rows).astype("<f4"),
            }
        )
        pq.write_table(table, tmp_path / "foreign" / split / "0.parquet")
    return str(tmp_path / "foreign")
