"""One file of a dataset written again, after damage."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ristune.data.columns import Column
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.manifest import Generator, Shard
from ristune.data.shards import encode
from ristune.data.writing.plan import first_difference, make_plan
from ristune.data.writing.source import Part, Progress, Source, as_columns
from ristune.errors import InputError


def rewrite_shard(uri: str, source: Source, path: str, progress: Progress | None = None) -> Shard:
    """Write one file of a finished dataset again; nothing is written unless its bytes are the original's.

    Args:
        uri: the dataset.
        source: what made it.
        path: the shard or side table, as the manifest names it, such as `train/00003.parquet`.
        progress: called with the number of samples whenever so many more are there.

    Raises:
        InputError: there is no such dataset or file, the dataset was made by another source, or the source
            gives other bytes.
    """
    dataset = open_dataset(uri)
    wanted, original = _find(dataset, path)
    plan = make_plan(source)
    made_by = _identity(dataset.manifest.generator, dataset.manifest.columns)
    difference = first_difference(_identity(plan.generator, plan.columns), made_by)
    if difference:
        rule = f"the dataset must have been made by what is to draw the shard again ({difference})"
        raise InputError("uri", dataset.uri, rule, "give the values that the dataset was made with")
    if isinstance(wanted, Part):
        data, shard = encode(path, plan.columns, source.arrays(wanted, progress))
    else:
        data, shard = _table(source, wanted, path)
    if shard.sha256 != original.sha256:
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
    return {"generator": asdict(generator), "columns": {each.name: asdict(each) for each in columns}}


def _table(source: Source, name: str, path: str) -> tuple[memoryview, Shard]:
    tables = source.tables()
    if name not in tables:
        rule = f"the tables of generator {source.name!r} are {', '.join(tables) or 'none'}"
        raise InputError("table", name, rule, "draw it with the version that it was written with")
    declared, arrays = tables[name]
    return encode(path, as_columns(declared, f"table {name!r}"), arrays)


def _find(dataset: Dataset, path: str) -> tuple[Part | str, Shard]:
    """A shard as a part, or a side table as its name; and what the manifest says of its file."""
    for name, table in dataset.manifest.tables.items():
        if table.path == path:
            return name, table
    for name, split in dataset.manifest.splits.items():
        for index, shard in enumerate(split.shards):
            if shard.path == path:
                return Part(name, index, shard.rows), shard
    splits, tables = dataset.manifest.splits.values(), dataset.manifest.tables.values()
    known = [f"{split.shards[0].path} to {split.shards[-1].path}" for split in splits]
    known += [table.path for table in tables]
    raise InputError(f"{dataset.uri}: shard", path, f"the files are {', '.join(known)}", "correct the path")
