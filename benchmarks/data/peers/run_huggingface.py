"""Hugging Face datasets: a `Dataset` in an Arrow file, taken by the batch over a permutation.

packed-memory  one binary column in Arrow format, the file read into this process's memory
packed         the same, the file memory-mapped, so that processes share it
fields         a column a field (FixedSizeList) in Arrow format, memory-mapped
torch          the same in torch format

Arrow hands out read-only memory: `packed` batches cannot be written to without one copy more.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Dataset, Features, Sequence, Value
from datasets.arrow_writer import ArrowWriter
from torch.utils.data import DataLoader
from workload import BATCH, FIELDS, Batch, Variant, from_arrow, main, row_bytes, rows

PACKED = Features({"row": Value("binary")})


def feature(dtype: str, shape: tuple[int, ...]) -> Any:
    value = Value(np.dtype(dtype).name)
    return Sequence(value, length=int(np.prod(shape))) if shape else value


def write(folder: Path, examples: Iterable[dict[str, Any]], features: Features) -> None:
    with ArrowWriter(path=str(folder / "data.arrow"), features=features, writer_batch_size=1000) as writer:
        for example in examples:
            writer.write(example)
        writer.finalize()


def write_packed(folder: Path, count: int) -> None:
    write(folder, ({"row": row} for row in row_bytes(count)), PACKED)


def write_fields(folder: Path, count: int) -> None:
    features = Features({name: feature(dtype, shape) for name, dtype, shape in FIELDS})
    examples = (
        {name: row[name].reshape(-1) if shape else row[name] for name, _, shape in FIELDS}
        for block in rows(count)
        for row in block
    )
    write(folder, examples, features)


def decode_packed(table: Any) -> Batch:
    return from_arrow(table["row"])


def decode_fields(table: Any) -> Batch:
    columns = {name: table[name].combine_chunks() for name, _, _ in FIELDS}
    return {
        name: torch.from_numpy(
            (columns[name].flatten() if shape else columns[name]).to_numpy().reshape(-1, *shape)
        )
        for name, _, shape in FIELDS
    }


def decode_torch(batch: dict[str, torch.Tensor]) -> Batch:
    # The torch format widens every integer to int64.
    return {
        name: batch[name].reshape(-1, *shape).to(torch.int32 if dtype == "<i4" else batch[name].dtype)
        for name, dtype, shape in FIELDS
    }


def open_dataset(
    folder: Path, workers: int, decode: Callable[[Any], Batch], layout: str = "arrow", memory: bool = False
) -> Callable[[int], Iterable[Batch]]:
    dataset = Dataset.from_file(str(folder / "data.arrow"), in_memory=memory).with_format(layout)

    def batches(epoch: int) -> list[np.ndarray]:
        order = np.random.default_rng(epoch).permutation(len(dataset))
        return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def epoch_batches(epoch: int) -> Iterator[Batch]:
        if not workers:
            return (decode(dataset[indices]) for indices in batches(epoch))
        loader = DataLoader(
            dataset, batch_size=None, sampler=batches(epoch), num_workers=workers, collate_fn=decode
        )
        return iter(loader)

    return epoch_batches


VARIANTS = {
    "packed-memory": Variant(
        write_packed, partial(open_dataset, decode=decode_packed, memory=True), "full permutation"
    ),
    "packed": Variant(write_packed, partial(open_dataset, decode=decode_packed), "full permutation"),
    "fields": Variant(write_fields, partial(open_dataset, decode=decode_fields), "full permutation"),
    "torch": Variant(
        write_fields, partial(open_dataset, decode=decode_torch, layout="torch"), "full permutation"
    ),
}

if __name__ == "__main__":
    main("huggingface", datasets.__version__, VARIANTS, __doc__)
