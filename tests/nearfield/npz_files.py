"""Shards by `numpy.savez` as users have them, and what the importer makes of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ristune.data.dataset import open_dataset
from ristune.data.writing.source import parts
from ristune.data.writing.writer import write_dataset
from ristune.nearfield.conventions import ORDERS, SIGNS
from ristune.nearfield.imported import NpzSource
from ristune.nearfield.importing import NpzImporter
from tests.nearfield.conftest import GEOMETRY, VIEW, make_task, simulator
from tests.nearfield.old_shards import OURS, old_shard, save

ROWS = {"train": 96, "val": 40, "test": 24}


OLD = replace(OURS, sign=SIGNS[1], order=ORDERS[1], mirror="u", direction="u = cos az cos el, v = sin el")


LABELS = ("num_sources", "azimuth", "elevation", "range", "power", "phase")


def importer(files: Mapping[str, Sequence[str]], **changes: Any) -> NpzImporter:
    values: dict[str, Any] = dict(
        shares=[],
        geometry=GEOMETRY,
        field_of_view=VIEW,
        channel_dtype="f4",
        relabel=False,
        duplicates="refuse",
        seed=1,
    )
    return NpzImporter(files=files, **{**values, **changes})


def survey(files: Mapping[str, Sequence[str]], **changes: Any) -> NpzSource:
    return importer(files, **changes).survey(parts)


def shards(
    folder: Path, change: Callable[[dict[str, np.ndarray]], Any] = lambda shard: None, **values: Any
) -> dict[str, list[str]]:
    """Files of three splits, each changed before it is written."""
    without = values.pop("without", ("R_samp",))
    made = {}
    for seed, (name, rows) in enumerate(ROWS.items()):
        shard = old_shard(rows, seed=seed, **values)
        change(shard)
        made[name] = [save(folder / f"{name}.npz", shard, without=without)]
    return made


def all_rows(source: NpzSource) -> dict[str, np.ndarray]:
    blocks = [source.arrays(part) for part in source.parts()]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def checked(source: NpzSource, folder: Path) -> list[str]:
    """Write the source, and what the task finds in it."""
    write_dataset(str(folder), source)
    dataset = open_dataset(str(folder))
    task = make_task()
    task.attach(dataset)
    return [text for name in ROWS for text in task.check_sample(dict(dataset.split(name)))]


def text(source: NpzSource) -> str:
    return "\n".join(source.lines)


def truth(rows: int, seed: int, **values: Any) -> dict[str, np.ndarray]:
    drawn = values.pop("source", None) or simulator(channel_dtype="f4", **values)
    return dict(drawn.draw(rows, np.random.default_rng(seed)))


def matched(found: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray]) -> np.ndarray:
    """For each row that was found, the one it was made of, told by the SNR."""
    return np.array([int(np.abs(true["snr_db"] - snr).argmin()) for snr in found["snr_db"]])
