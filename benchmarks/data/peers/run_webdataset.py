"""WebDataset: tar shards read in order, shuffled by shard and in a buffer.

grouped  a tar record holds 50 packed samples, taken apart before the buffer: fewer tar headers to parse
single   a tar record is one packed sample, WebDataset's usual form
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import webdataset as wds
from torch.utils.data import DataLoader
from workload import BATCH, ROW, Batch, Variant, from_bytes, main, rows

SHARD = 2000
BUFFER = 2000
GROUP = 50


def write(folder: Path, count: int, group: int) -> None:
    with wds.ShardWriter(str(folder / "%05d.tar"), maxcount=SHARD // group, verbose=0) as sink:
        for block in rows(count):
            for start in range(0, len(block), group):
                key = f"{block['scene_id'][start]:08}"
                sink.write({"__key__": key, "rows": block[start : start + group].tobytes()})


def split(records: Iterable[dict[str, Any]]) -> Iterator[memoryview]:
    """The packed samples of each record, without a copy."""
    for record in records:
        view = memoryview(record["rows"])
        for start in range(0, len(view), ROW.itemsize):
            yield view[start : start + ROW.itemsize]


def open_dataset(folder: Path, workers: int) -> Callable[[int], Iterable[Batch]]:
    shards = sorted(map(str, folder.glob("*.tar")))

    def epoch_batches(epoch: int) -> Iterable[Batch]:
        pipeline = wds.DataPipeline(
            wds.SimpleShardList(shards),
            wds.detshuffle(len(shards), seed=epoch),
            wds.split_by_worker,
            wds.tarfile_to_samples(),
            split,
            wds.shuffle(BUFFER, initial=BUFFER, seed=epoch),
            wds.batched(BATCH, collation_fn=from_bytes),
        )
        return DataLoader(pipeline, batch_size=None, num_workers=workers) if workers else pipeline

    return epoch_batches


SHUFFLE = f"shards of {SHARD}, then buffer of {BUFFER}"
VARIANTS = {
    "grouped": Variant(partial(write, group=GROUP), open_dataset, SHUFFLE),
    "single": Variant(partial(write, group=1), open_dataset, SHUFFLE),
}

if __name__ == "__main__":
    main("webdataset", wds.__version__, VARIANTS, __doc__)
