"""Streams of every mode over one small dataset, as several tests open them."""

from functools import partial

import pytest
import torch

from ristune.data.cache import NodeCache
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.device import DeviceSource
from ristune.data.places import Place
from ristune.data.shards import encode
from ristune.data.stream import Stream
from ristune.data.windows import ReadWindows, RowReader
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from tests.data.drawing import Drawing

ROWS = 83
# Some rows in a row group, so that a small dataset has many of them.
GROUP = 5


def written(folder):
    """A dataset of three shards of several row groups each, the last of a shard cut short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ristune.data.writing.written.encode", lambda *a: encode(*a, row_group_bytes=GROUP * 76)
        )
        write_dataset(str(folder / "d"), Simulated(Drawing(), {"train": ROWS, "val": 9}, 5, 32))
    cache = NodeCache((Place(folder / "cache", 10**9, "data.cache_disk_gb"),), lambda line: None)
    found = open_dataset(str(folder / "d"), cache)
    groups = [shard.row_groups[number].rows for shard, number in found.groups("train")]
    assert groups == [5, 5, 5, 5, 5, 5, 2] * 2 + [5, 5, 5, 4]
    return found


def stream(dataset, **changes):
    arguments = {
        "split": "train",
        "batch_size": 4,
        "seed": 0,
        "shuffle": True,
        "device": "cpu",
        "mode": "cached",
        "window": 3,
        "prefetch": 1,
        "gpu_share": 0.6,
        **changes,
    }
    return Stream(dataset, **arguments)


def on_device(dataset, **changes):
    """As with `mode="gpu"` on a GPU; here its memory is the CPU's."""
    batches = stream(dataset, **changes)
    batches._source = DeviceSource(dataset, "train", batches._columns, batches._samples, batches.device)
    return batches


def read(dataset, **changes):
    """As from a store: windows are read, and not mapped."""
    batches = stream(dataset, mode="windowed", **changes)
    reader = RowReader(dataset, "train", batches._columns, batches._window)
    batches._source._begin = partial(ReadWindows, reader)
    return batches


MODES = {
    "cached": lambda dataset, **changes: stream(dataset, mode="cached", **changes),
    "own memory": lambda dataset, **changes: stream(
        Dataset(dataset.storage, dataset.manifest), mode="cached", **changes
    ),
    "windowed": lambda dataset, **changes: stream(dataset, mode="windowed", **changes),
    "windowed, read": read,
    "windowed, no cache": lambda dataset, **changes: stream(
        Dataset(dataset.storage, dataset.manifest), mode="auto", **changes
    ),
    "gpu": on_device,
}


def ids(batches):
    return torch.cat([torch.empty(0, dtype=torch.int64), *(batch["sample_id"] for batch in batches)]).tolist()
