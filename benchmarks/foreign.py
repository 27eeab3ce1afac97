"""How much slower Parquet of other tools decodes than ristune's own format, on rows of 29.8 kB.

python -m benchmarks.foreign [FOLDER]
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ristune.data.columns import Column
from ristune.data.dataset import open_dataset
from ristune.data.foreign.export import export
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset

ROWS, REPEATS = 4000, 9
COLUMNS = (
    Column("y", "<f4", (16, 16, 2), "1", "input"),
    Column("h", "<f4", (16, 144, 2), "1", "input"),
    Column("phase", "<f4", (16, 144), "rad", "input"),
    *(Column(name, "<f4", (5,), "1", "label") for name in ("azimuth", "elevation", "range", "power")),
    Column("snr_db", "<f4", (), "dB", "label"),
    Column("scene_id", "<i8", (), "1", "id"),
)


class Noise:
    """White noise in every column."""

    name, version, columns = "noise", "1", COLUMNS

    def parameters(self):
        """None."""
        return {}

    def tables(self):
        """None."""
        return {}

    def draw(self, rows, rng):
        """As `Simulator.draw`."""
        drawn = {c.name: rng.standard_normal((rows, *c.shape), "f4") for c in COLUMNS if c.role != "id"}
        return {**drawn, "scene_id": rng.integers(0, 2**62, rows)}


def fixed_lists(array):
    flat = pa.array(array.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, array[0].size)


def lists(array):
    offsets = np.arange(len(array) + 1, dtype="<i4") * array[0].size
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(array.reshape(-1)))


def write(folder, arrays, tensor, **form):
    folder.joinpath("train").mkdir(parents=True)
    table = {name: tensor(array) if array.ndim > 1 else pa.array(array) for name, array in arrays.items()}
    pq.write_table(pa.table(table), folder / "train/0.parquet", **form)


def seconds(datasets):
    """The best time of decoding each file from memory, by turns, and the size of the file."""
    times, sizes = {name: [] for name in datasets}, {}
    for _ in range(REPEATS):
        for name, dataset in datasets.items():
            (shard,) = dataset.manifest.splits["train"].shards
            data = dataset.storage.read(shard.path)
            started = time.perf_counter()
            dataset.decode(data, shard, dataset.manifest.columns)
            times[name].append(time.perf_counter() - started)
            sizes[name] = len(data)
    return {name: (min(each), sizes[name]) for name, each in times.items()}


def main():
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        folder = Path(scratch)
        write_dataset(str(folder / "v1"), Simulated(Noise(), {"train": ROWS}, 0))
        own = open_dataset(str(folder / "v1"))
        arrays = {name: tensor.numpy() for name, tensor in own.split("train").items()}
        export(own, str(folder / "export"))
        write(folder / "lists", arrays, lists)
        write(folder / "fixed", arrays, fixed_lists, compression="none", use_dictionary=False)
        write(folder / "tensors", arrays, pa.FixedShapeTensorArray.from_numpy_ndarray, compression="zstd")
        raw = sum(array.nbytes for array in arrays.values())
        print(f"{ROWS} rows of {raw / ROWS / 1e3:.1f} kB; best of {REPEATS}; hash or finite check included")
        names = {
            "v1": "format v1",
            "fixed": "fixed-size lists, plain, uncompressed",
            "tensors": "fixed_shape_tensor, zstd, dictionary",
            "lists": "lists, the defaults of pyarrow",
            "export": "dataset export --interoperable",
        }
        found = seconds({place: open_dataset(str(folder / place)) for place in names})
        reference = found["v1"][0]
        for place, name in names.items():
            best, size = found[place]
            figures = f"{size / raw:5.2f} of raw  {raw / best / 1e9:5.2f} GB/s  {best / reference:5.1f} x"
            print(f"{name:40} {figures}")


if __name__ == "__main__":
    main()
