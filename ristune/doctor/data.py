"""Whether the dataset is what its manifest says, and its splits have nothing in common."""

import hashlib
from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.columns import id_column
from ristune.data.dataset import Dataset
from ristune.data.manifest import SPLITS
from ristune.data.reading import GroupReader
from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Outcome, failed, passed, some

# Row groups of a split whose bytes are looked at.
GROUPS = 4
# Ids of a split that are compared: 8 MB.
IDS = 2**20
# Bytes of a split whose rows are compared by content.
CONTENT = 32 * 2**20


def dataset(bench: Bench) -> Outcome:
    """Checksums of a sample of row groups, and every value of those finite."""
    data = bench.dataset
    reader = GroupReader(data.storage)
    read, size = 0, 0
    bad: list[str] = []
    for split in data.manifest.splits:
        groups = list(data.groups(split))
        for index in sorted({round(part * (len(groups) - 1) / (GROUPS - 1)) for part in range(GROUPS)}):
            shard, number = groups[index]
            # A chunk whose CRC is another one is refused here.
            arrays = reader.read(shard, number, data.manifest.columns)
            read, size = read + 1, size + sum(array.nbytes for array in arrays.values())
            for name, array in arrays.items():
                wrong = int((~np.isfinite(array)).sum())
                if wrong:
                    bad.append(f"{wrong} of {name!r} in {shard.path}, row group {number}")
    if bad:
        return failed(
            f"values that are not finite: {some(bad)}",
            "leave such rows out where the data are made; `python -m ristune.dataset verify` lists them all",
        )
    rows = ", ".join(f"{data.rows(name)} {name}" for name in SPLITS if name in data.manifest.splits)
    return passed(f"{rows}; {read} row groups read ({size / 1e6:.0f} MB), all finite and as written")


def splits(bench: Bench) -> Outcome:
    """No id and no content of a row in two splits."""
    data = bench.dataset
    name = id_column(data.manifest.columns, data.uri).name
    found = list(data.manifest.splits)
    ids = {split: _ids(data, split, name) for split in found}
    for split, own in ids.items():
        repeated = len(own) - len(np.unique(own))
        if repeated:
            return failed(f"{repeated} ids occur twice in {split}", "write the dataset again without repeats")
    for one, other in combinations(found, 2):
        shared = np.intersect1d(ids[one], ids[other])
        if shared.size:
            return failed(
                f"{shared.size} ids of {other} ({len(ids[other])} compared) are in {one} too, such as "
                f"{shared[0]}",
                "what is validated was trained on: write splits that have no row in common",
            )
    content = {split: _content(data, split, name) for split in found}
    compared = ", ".join(f"{len(ids[split])} {split}" for split in found)
    # Rows of few discrete values coincide by chance: they repeat in one split as well.
    if any(len(set(rows)) < len(rows) for rows in content.values()):
        return passed(f"ids disjoint ({compared}); content repeats within a split, so it was not compared")
    for one, other in combinations(found, 2):
        both = set(content[one]) & set(content[other])
        if both:
            return failed(
                f"{len(both)} of {len(content[other])} rows of {other} are, but for their id, among "
                f"{len(content[one])} of {one}",
                "what is validated was trained on: write splits that have no row in common",
            )
    looked = ", ".join(f"{len(content[split])} {split}" for split in found)
    return passed(f"ids disjoint ({compared}), content too ({looked})")


def _ids(data: Dataset, split: str, name: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = data.split(split, [name], min(IDS, data.rows(split)))[name].numpy()
    return values


def _content(data: Dataset, split: str, name: str) -> list[bytes]:
    """Digests of the first rows, the id left out."""
    rows = min(data.rows(split), max(1, CONTENT // data.layout.width))
    columns = [column.name for column in data.manifest.columns if column.name != name]
    return _digests(data.split(split, columns, rows), rows)


def _digests(columns: Mapping[str, Tensor], rows: int) -> list[bytes]:
    bytes_of = [np.ascontiguousarray(c.numpy()).reshape(rows, -1).view(np.uint8) for c in columns.values()]
    joined = np.concatenate(bytes_of, axis=1) if bytes_of else np.empty((rows, 0), np.uint8)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in joined]
