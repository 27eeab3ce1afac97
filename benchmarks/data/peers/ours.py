"""ristune on the samples of its peers: an epoch from the node's cache, and from Parquet in windows.

cached              from the node's cache in shared memory, each batch made when it is asked for, by all of
                    torch's threads, which are as many as there are cores
cached-two-ahead    the same, two threads make batches ahead
cached-one-thread   the same, made when it is asked for, by one thread
windowed            straight from the Parquet files, 16 row groups at a time

Runs in ristune's own environment; the protocol is that of `epochs.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ristune
from benchmarks.data.peers.workload import BATCH, FIELDS, Batch, Variant, main, sample
from ristune.data.cache import NodeCache
from ristune.data.columns import Column
from ristune.data.dataset import open_dataset
from ristune.data.places import SHARED_MEMORY, Place
from ristune.data.stream import Stream
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset

CACHE = SHARED_MEMORY / "ristune-benchmark"


class Workload:
    """The samples of the peers as a simulator: by number, whatever the generator."""

    name, version = "workload", "1"
    columns = tuple(
        Column(name, dtype, shape, "1", "id" if name == "scene_id" else "input")
        for name, dtype, shape in FIELDS
    )

    def __init__(self) -> None:
        self._next = 0

    def parameters(self) -> Mapping[str, Any]:
        return {}

    def tables(self) -> Mapping[str, Any]:
        return {}

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        block = np.concatenate([sample(self._next + i) for i in range(rows)])
        self._next += rows
        return {name: np.ascontiguousarray(block[name]) for name, _, _ in FIELDS}


def write(folder: Path, count: int) -> None:
    write_dataset(str(folder), Simulated(Workload(), {"train": count}, 0))


def open_stream(
    folder: Path, workers: int, mode: str, prefetch: int, threads: int | None = None
) -> Callable[[int], Iterable[Batch]]:
    if threads:
        torch.set_num_threads(threads)
    if workers:
        raise SystemExit(f"--workers: got {workers}; ristune reads with threads; leave it out")
    cache = NodeCache((Place(CACHE, 10**11, "data.cache_disk_gb"),), lambda line: None)
    dataset = open_dataset(str(folder), cache if mode == "cached" else None)
    stream = Stream(
        dataset, "train", BATCH, 0, True, "cpu", mode=mode, window=16, prefetch=prefetch, gpu_share=0
    )
    return stream.epoch


WINDOWS = "windows of 16 row groups"
VARIANTS = {
    name: Variant(write, partial(open_stream, **how), WINDOWS)
    for name, how in {
        "cached": {"mode": "cached", "prefetch": 0},
        "cached-two-ahead": {"mode": "cached", "prefetch": 2},
        "cached-one-thread": {"mode": "cached", "prefetch": 0, "threads": 1},
        "windowed": {"mode": "windowed", "prefetch": 0},
    }.items()
}

if __name__ == "__main__":
    main("ristune", ristune.__version__, VARIANTS, __doc__ or "")
