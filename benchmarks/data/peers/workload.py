"""What every peer is measured on: the samples, the checks, the timing and the line of JSON that is printed.

A sample is the near-field task's float32 schema, 29 796 bytes; sample i depends on i alone. A peer brings
`Variant`s, and `main` gives it the command line `prepare` and `run` (see peers.py for the protocol).
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

BATCH = 256
SAMPLES = 20_000
FIELDS: list[tuple[str, str, tuple[int, ...]]] = [
    ("y", "<f4", (16, 16, 2)),
    ("h", "<f4", (16, 144, 2)),
    ("phase", "<f4", (16, 144)),
    ("snr_db", "<f4", ()),
    ("noise_var", "<f4", ()),
    ("num_sources", "<i4", ()),
    ("azimuth", "<f4", (5,)),
    ("elevation", "<f4", (5,)),
    ("range", "<f4", (5,)),
    ("power", "<f4", (5,)),
    ("scene_id", "<i8", ()),
]
ROW = np.dtype(FIELDS)

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Variant:
    """One way of using a peer.

    Args:
        prepare: Writes `count` samples into an empty folder, (folder, count).
        open: Opens the folder, (folder, workers), and returns what gives epoch e's batches of tensors.
        shuffle: What is shuffled: "full", or "buffer of N samples".
    """

    prepare: Callable[[Path, int], None]
    open: Callable[[Path, int], Callable[[int], Iterable[Batch]]]
    shuffle: str


def sample(index: int) -> np.ndarray:
    """Sample `index` as an array of one ROW: normal numbers, its index as `scene_id`."""
    words = np.random.default_rng((0, index)).standard_normal(ROW.itemsize // 4, dtype=np.float32)
    row = words.view(ROW)
    row["num_sources"] = 1 + index % 5
    row["scene_id"] = index
    return row


def rows(count: int, block: int = 1000) -> Iterator[np.ndarray]:
    """All samples in order, ROW arrays of at most `block`."""
    for start in range(0, count, block):
        yield np.concatenate([sample(i) for i in range(start, min(start + block, count))])


def row_bytes(count: int) -> Iterator[bytes]:
    """All samples in order, packed."""
    return (row.tobytes() for block in rows(count) for row in block)


def parquet(folder: Path, count: int, shard: int) -> None:
    """Packed samples as Parquet files of `shard` rows, one binary column `row`."""
    # Only some of the peers read Parquet.
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, block in enumerate(rows(count, shard)):
        table = pa.table({"row": pa.array([row.tobytes() for row in block], pa.binary())})
        pq.write_table(table, folder / f"{number:05}.parquet", compression="none", use_dictionary=False)


def tensors(packed: np.ndarray) -> Batch:
    """Views into packed ROWs as tensors, [n, ...]; copies of what cannot be viewed or would be sent whole."""
    # A worker process sends a view's whole storage; an int64 view needs a stride divisible by 8.
    copied = {name for name, _, _ in FIELDS} if get_worker_info() else {"scene_id"}
    return {
        name: torch.from_numpy(packed[name].copy() if name in copied else packed[name])
        for name, _, _ in FIELDS
    }


def from_bytes(samples: list[bytes]) -> Batch:
    """A batch of packed samples: one copy in C, then views."""
    return tensors(np.frombuffer(bytearray().join(samples), ROW))


def from_arrow(column: Any) -> Batch:
    """A batch from an Arrow binary column of packed samples: one copy of several chunks, then views."""
    array = column.combine_chunks()
    _, offsets, values = array.buffers()
    first = np.frombuffer(offsets, np.int32)[array.offset]
    return tensors(np.frombuffer(values, ROW, count=len(array), offset=first))


def batched(samples: Iterable[Any], collate: Callable[[list[Any]], Batch]) -> Iterator[Batch]:
    """Batches of BATCH samples in the order they come, the last one short; no DataLoader in between."""
    waiting = []
    for one in samples:
        waiting.append(one)
        if len(waiting) == BATCH:
            yield collate(waiting)
            waiting = []
    if waiting:
        yield collate(waiting)


def stacked(samples: list[dict[str, Any]]) -> Batch:
    """A batch of samples that are dicts of arrays: one copy a field."""
    return {name: torch.from_numpy(np.stack([one[name] for one in samples])) for name, _, _ in FIELDS}


def check_values(batch: Batch) -> None:
    """Shape, dtype and every value of a batch against the generator."""
    truth = np.concatenate([sample(i) for i in batch["scene_id"].tolist()])
    for name, dtype, shape in FIELDS:
        values = batch[name].numpy()
        if values.dtype != np.dtype(dtype) or values.shape[1:] != shape:
            raise ValueError(f"{name}: got {values.dtype} {values.shape[1:]}; the sample has {dtype} {shape}")
        if not np.array_equal(values, truth[name]):
            raise ValueError(f"{name}: values differ from the generator's")


def measure(variant: Variant, folder: Path, count: int, epochs: int, workers: int) -> dict[str, Any]:
    """Times `epochs` epochs and checks each of them outside the timed part."""
    start = time.perf_counter()
    epoch_batches = variant.open(folder, workers)
    opened = time.perf_counter() - start
    rates, repeated, missing, orders = [], 0, 0, []
    for epoch in range(epochs):
        ids, last = [], None
        start = time.perf_counter()
        for batch in epoch_batches(epoch):
            ids.append(batch["scene_id"])
            last = batch
        rates.append(sum(map(len, ids)) / (time.perf_counter() - start))
        if last is None:
            raise ValueError(f"epoch {epoch}: got no batch; {count} samples were written")
        check_values(last)
        orders.append(torch.cat(ids))
        seen = torch.bincount(orders[-1], minlength=count)
        repeated += int((seen - 1).clamp(min=0).sum())
        missing += int((seen == 0).sum())
    return {
        "open_s": round(opened, 3),
        "rates": [round(rate) for rate in rates],
        "exactly_once": repeated == 0 and missing == 0,
        "repeated": repeated,
        "missing": missing,
        "new_order_each_epoch": not any(torch.equal(a, b) for a, b in zip(orders, orders[1:], strict=False)),
        "ids_in_order": round(float((orders[-1].diff() == 1).float().mean()), 4),
    }


def main(peer: str, version: str, variants: dict[str, Variant], description: str) -> None:
    """The command line of one peer; the first variant is its best."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=["prepare", "run"])
    parser.add_argument("folder", type=Path, help="work folder; data goes to FOLDER/PEER-VARIANT")
    parser.add_argument("--variant", choices=list(variants), default=next(iter(variants)))
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument(
        "--workers", type=int, default=0, help="worker processes (default 0: in this process)"
    )
    args = parser.parse_args()
    variant, folder = variants[args.variant], args.folder.resolve() / f"{peer}-{args.variant}"
    record = {"peer": peer, "version": version, "variant": args.variant, "samples": args.samples}
    if args.action == "prepare":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = time.perf_counter()
        variant.prepare(folder, args.samples)
        record["prepare_s"] = round(time.perf_counter() - start, 2)
    else:
        record |= {"workers": args.workers, "shuffle": variant.shuffle}
        record |= measure(variant, folder, args.samples, args.epochs, args.workers)
    record["bytes_per_sample"] = ROW.itemsize
    record["bytes_on_disk"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(json.dumps(record))
