"""What writing holds in memory, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARD_MB = 8
WRITE = f"""
import resource, sys
import numpy as np
from ristune.data.columns import Column
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset

class Wide:
    name, version = "wide", "1"
    columns = (Column("x", "<f4", (1024,), "1", "input"), Column("key", "<i8", (), "1", "id"))
    def parameters(self): return {{}}
    def tables(self): return {{}}
    def draw(self, rows, rng):
        return {{"x": rng.random((rows, 1024), "<f4"), "key": rng.integers(0, 2**62, rows)}}

rows = {SHARD_MB} * 256
write_dataset(sys.argv[1], Simulated(Wide(), {{"train": int(sys.argv[2]) * rows}}, 0, rows))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mb(folder: Path, shards: int) -> float:
    command = [sys.executable, "-c", WRITE, str(folder), str(shards)]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout) / 1024


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path):
    few, many = peak_mb(tmp_path / "few", 2), peak_mb(tmp_path / "many", 12)
    # Ten more shards are 80 MB: holding even a quarter of them would show.
    assert many - few < 2.5 * SHARD_MB
