"""Ray Data: Parquet files with one binary column, batches by `iter_torch_batches` in the driver's process.

materialized  the blocks stay in Ray's object store, which holds the whole dataset (a quota of memory)
shuffled      the same, a full `random_shuffle` each epoch instead of block order and a local buffer
streaming     every epoch reads the Parquet files again, as for a dataset larger than memory

Ray's own processes run beside this one whatever is asked; there are no worker processes to choose.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.data.collate_fn import ArrowBatchCollateFn
from workload import BATCH, Batch, Variant, from_arrow, main, parquet

SHARD = 2000
BUFFER = 2000
STORE = 3 << 30


class Unpack(ArrowBatchCollateFn):
    """Arrow table to tensors without the detour over NumPy objects."""

    def __call__(self, table: Any) -> Batch:
        """A batch of the table's packed rows."""
        return from_arrow(table["row"])


def open_dataset(folder: Path, workers: int, kind: str) -> Callable[[int], Iterable[Batch]]:
    if workers:
        raise SystemExit(f"--workers: got {workers}; Ray Data has no DataLoader workers; leave it out")
    ray.init(object_store_memory=STORE, include_dashboard=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    source = ray.data.read_parquet(str(folder), shuffle="files" if kind == "streaming" else None)
    dataset = source if kind == "streaming" else source.materialize()

    def epoch_batches(epoch: int) -> Iterable[Batch]:
        options: dict[str, Any] = {"batch_size": BATCH, "prefetch_batches": 4, "collate_fn": Unpack()}
        if kind == "shuffled":
            return dataset.random_shuffle(seed=epoch).iter_torch_batches(**options)
        options |= {"local_shuffle_buffer_size": BUFFER, "local_shuffle_seed": epoch}
        blocks = dataset if kind == "streaming" else dataset.randomize_block_order(seed=epoch)
        return blocks.iter_torch_batches(**options)

    return epoch_batches


WRITE = partial(parquet, shard=SHARD)
LOCAL = f"blocks, then buffer of {BUFFER}"
VARIANTS = {
    "materialized": Variant(WRITE, partial(open_dataset, kind="materialized"), LOCAL),
    "shuffled": Variant(WRITE, partial(open_dataset, kind="shuffled"), "full permutation"),
    "streaming": Variant(WRITE, partial(open_dataset, kind="streaming"), f"files, then buffer of {BUFFER}"),
}

if __name__ == "__main__":
    main("ray", ray.__version__, VARIANTS, __doc__)
