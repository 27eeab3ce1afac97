"""One shard of a dataset written again, after damage."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ristune.data.columns import Column
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.manifest import Generator, Shard
from ristune.data.shards import encode
from ristune.data.writing.plan import first_difference, make_plan
from ristune.data.writing.source import Part, Progress, Source
from ristune.errors import InputError


def rewrite_shard(uri: str, source: Source, path: str, progress: Progress | None = None) -> Shard:
    """Write one shard of a finished dataset again; nothing is written unless its bytes are the original's.

    Args:
        uri: the dataset.
        source: what made it.
        path: the shard, as the manifest names it, such as `train/00003.parquet`.
        progress: called with the number of samples whenever so many more are there.

    Raises:
        InputError: there is no such dataset or shard, the dataset was made by another source, or the source
            gives other bytes.
    """
    dataset = open_dataset(uri)
    part, original = _find(dataset, path)
    plan = make_plan(source)
    made_by = _identity(dataset.manifest.generator, dataset.manifest.columns)
    difference = first_difference(_identity(plan.generator, plan.columns), made_by)
    if difference:
        rule = f"the dataset must have been made by what is to draw the shard again ({difference})"
        raise InputError("uri", dataset.uri, rule, "give the values that the dataset was made with")
    data, shard = encode(path, plan.columns, source.arrays(part, progress))
    if shard != original:
        rule = (
            f"the manifest says sha256 {original.sha256}; its generator changed without a new version, "
            f"or it was written with another pyarrow than {pa.__version__}, which writes other bytes"
        )
        remedy = "draw it with the versions that it was written with; nothing was written"
        raise InputError(f"{dataset.uri}/{path}", f"sha256 {shard.sha256}", rule, remedy)
    dataset.storage.write_atomic(path, data)
    return shard


def _identity(generator: Generator, columns: Sequence[Column]) -> Any:
    """What must be the same for a shard to be the same."""
    values = {"generator": asdict(generator), "columns": {each.name: asdict(each) for each in columns}}
    return values


def _find(dataset: Dataset, path: str) -> tuple[Part, Shard]:
    for name, split in dataset.manifest.splits.items():
        for index, shard in enumerate(split.shards):
            if shard.path == path:
                return Part(name, index, shard.rows), shard
    known = ", ".join(
        f"{split.shards[0].path} to {split.shards[-1].path}" for split in dataset.manifest.splits.values()
    )
    raise InputError(f"{dataset.uri}: shard", path, f"the shards are {known}", "correct the path")
