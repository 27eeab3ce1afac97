"""LitData: `StreamingDataset` over its chunks on the local disk.

packed       a sample is one field of bytes; shuffled as LitData does by default, in blocks of 256
packed-full  the same, every chunk permuted as a whole (batch_decode=0: decoding ahead would be wasted)
tokens       a sample is a row of float32 words, read by TokensLoader from memory-mapped chunks
fields       a sample is a dict of arrays
parquet      ParquetLoader over Parquet files with one binary column
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import numpy as np
import torch
from litdata.streaming import Cache
from litdata.streaming.item_loader import BaseItemLoader, ParquetLoader, TokensLoader
from workload import (
    BATCH,
    FIELDS,
    ROW,
    Batch,
    Variant,
    batched,
    from_bytes,
    main,
    parquet,
    rows,
    stacked,
    tensors,
)

CHUNK = 2000
WORDS = ROW.itemsize // 4
BLOCKS = f"chunks of {CHUNK}, blocks of 256 in a chunk, samples in a block"
FULL = f"chunks of {CHUNK}, samples in a chunk"

Encode = Callable[[np.ndarray], Any]
Collate = Callable[[list[Any]], Batch]


def as_words(row: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(row.view(np.float32))


def as_dict(row: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.array(row[name][0]) for name, _, _ in FIELDS}


def collate_words(samples: list[torch.Tensor]) -> Batch:
    return tensors(torch.stack(samples).numpy().view(ROW)[:, 0])


def collate_parquet(samples: list[dict[str, bytes]]) -> Batch:
    return from_bytes([one["row"] for one in samples])


def write(folder: Path, count: int, encode: Encode, loader: BaseItemLoader | None = None) -> None:
    """Through the cache that `litdata.optimize` writes with, here without its worker processes."""
    size = CHUNK * WORDS if loader else CHUNK
    cache = Cache(str(folder), chunk_size=size, item_loader=loader)
    for block in rows(count):
        for i in range(len(block)):
            cache[int(block["scene_id"][i])] = encode(block[i : i + 1])
    cache.done()
    cache.merge()


def write_parquet(folder: Path, count: int) -> None:
    parquet(folder, count, CHUNK)
    litdata.index_parquet_dataset(str(folder))


def open_dataset(
    folder: Path, workers: int, collate: Collate, loader: BaseItemLoader | None = None, **options: Any
) -> Callable[[int], Iterable[Batch]]:
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, item_loader=loader, **options)
    if not workers:
        return lambda epoch: batched(dataset, collate)
    stream = litdata.StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=workers, collate_fn=collate, persistent_workers=True
    )
    return lambda epoch: stream


PACKED = partial(write, encode=bytes)
VARIANTS = {
    "packed": Variant(PACKED, partial(open_dataset, collate=from_bytes), BLOCKS),
    "packed-full": Variant(
        PACKED,
        partial(open_dataset, collate=from_bytes, item_shuffle_window="full", batch_decode=0),
        FULL,
    ),
    "tokens": Variant(
        partial(write, encode=as_words, loader=TokensLoader(WORDS)),
        partial(open_dataset, collate=collate_words, loader=TokensLoader(WORDS)),
        BLOCKS,
    ),
    "fields": Variant(partial(write, encode=as_dict), partial(open_dataset, collate=stacked), BLOCKS),
    "parquet": Variant(
        write_parquet, partial(open_dataset, collate=collate_parquet, loader=ParquetLoader()), BLOCKS
    ),
}

if __name__ == "__main__":
    main("litdata", litdata.__version__, VARIANTS, __doc__)
