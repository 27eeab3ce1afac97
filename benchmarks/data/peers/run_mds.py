"""MosaicML Streaming (MDS): `StreamingDataset` on the local disk.

random   a sample is one field of bytes; batches by list of indices over a permutation
iterate  the same, by the dataset's own shuffle (py1e) and iterator, what its documentation recommends
ndarray  the same as iterate, a sample being one array of float32 words
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from workload import BATCH, ROW, Batch, Variant, from_bytes, main, rows, tensors

# Streaming imports torchvision for its image datasets; what PyPI has does not load beside a CPU-only torch.
for name in (
    "torchvision",
    "torchvision.datasets",
    "torchvision.transforms",
    "torchvision.transforms.functional",
):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__spec__ = ModuleSpec(name, None)
vars(sys.modules["torchvision.datasets"])["VisionDataset"] = object
vars(sys.modules["torchvision.transforms.functional"])["to_tensor"] = None

# After the modules that stand in for torchvision.
import streaming  # noqa: E402
from streaming.base.util import clean_stale_shared_memory  # noqa: E402

WORDS = ROW.itemsize // 4


def write(folder: Path, count: int, encoding: str) -> None:
    with streaming.MDSWriter(out=str(folder), columns={"row": encoding}) as sink:
        for block in rows(count):
            for i in range(len(block)):
                row = block[i : i + 1]
                sink.write({"row": row.tobytes() if encoding == "bytes" else row.view(np.float32)})


def collate_bytes(samples: list[dict[str, bytes]]) -> Batch:
    return from_bytes([one["row"] for one in samples])


def collate_words(samples: list[dict[str, np.ndarray]]) -> Batch:
    return tensors(np.stack([one["row"] for one in samples]).view(ROW)[:, 0])


def open_dataset(
    folder: Path, workers: int, collate: Callable[[list[Any]], Batch], by_index: bool = False
) -> Callable[[int], Iterable[Batch]]:
    # A run that was killed leaves shared memory behind that stops the next.
    clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(
        local=str(folder), shuffle=not by_index, batch_size=BATCH, num_canonical_nodes=1
    )
    if not by_index:
        loader = DataLoader(
            dataset,
            batch_size=BATCH,
            num_workers=workers,
            collate_fn=collate,
            persistent_workers=workers > 0,
        )
        return lambda epoch: loader
    if workers:
        raise SystemExit(f"--workers: got {workers}; variant random runs in this process; leave it out")

    def epoch_batches(epoch: int) -> Iterable[Batch]:
        order = np.random.default_rng(epoch).permutation(len(dataset))
        return (collate(dataset[order[start : start + BATCH]]) for start in range(0, len(order), BATCH))

    return epoch_batches


PACKED = partial(write, encoding="bytes")
VARIANTS = {
    "random": Variant(
        PACKED, partial(open_dataset, collate=collate_bytes, by_index=True), "full permutation"
    ),
    "iterate": Variant(PACKED, partial(open_dataset, collate=collate_bytes), "py1e"),
    "ndarray": Variant(
        partial(write, encoding=f"ndarray:float32:{WORDS}"),
        partial(open_dataset, collate=collate_words),
        "py1e",
    ),
}

if __name__ == "__main__":
    main("mds", streaming.__version__, VARIANTS, __doc__)
