"""A page of histograms of a dataset's small columns, and a picture of one sample."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ristune import cli
from ristune.data.columns import Column
from ristune.data.dataset import Dataset
from ristune.data.manifest import SPLITS
from ristune.errors import InputError
from ristune.page import require_matplotlib
from ristune.training.task import DrawsSamples

FORMATS = (".png", ".pdf", ".svg")
# A longer vector is data rather than a handful of labels.
MOST_ELEMENTS = 16
MOST_BARS = 40
COLUMNS_OF_PANELS = 3
PANEL_INCHES = (4.6, 3.2)


def draw(dataset: Dataset, task: DrawsSamples | None, samples: int, path: Path) -> None:
    """Draw the first rows of the first split to a file.

    Args:
        dataset: the dataset.
        task: draws one sample; without it there is no such picture.
        samples: rows in the histograms.
        path: the file; its suffix decides the format.

    Raises:
        InputError: matplotlib is not installed, the file cannot be written, or a shard is damaged.
    """
    if path.suffix not in FORMATS:
        raise InputError("--plot", str(path), f"the file ends in {', '.join(FORMATS)}", "rename it")
    cli.check_writable("--plot", path.parent)
    require_matplotlib("--plot", path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    split = next(name for name in SPLITS if name in dataset.manifest.splits)
    rows = min(samples, dataset.rows(split))
    small = [
        each for each in dataset.manifest.columns if each.role != "id" and each.elements <= MOST_ELEMENTS
    ]
    values = dataset.split(split, [column.name for column in small], rows)
    used = used_elements(small, values)
    constant = [each for each in small if torch.equal(values[each.name].min(), values[each.name].max())]
    varying = [each for each in small if each not in constant]
    panels = len(varying) + (task is not None)
    height = max(1, math.ceil(panels / COLUMNS_OF_PANELS))
    figure = Figure((PANEL_INCHES[0] * COLUMNS_OF_PANELS, PANEL_INCHES[1] * height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{dataset.uri}, {rows} of {dataset.rows(split)} rows of {split}, id {dataset.dataset_id[:12]}"
    )
    if task is not None:
        sample = {name: tensor[0] for name, tensor in dataset.split(split, limit=1).items()}
        task.draw_sample(sample, figure.add_subplot(height, COLUMNS_OF_PANELS, 1))
    for position, column in enumerate(varying, start=1 + (task is not None)):
        axes = figure.add_subplot(height, COLUMNS_OF_PANELS, position)
        _histogram(axes, column, values[column.name], used.get(column.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def used_elements(columns: Sequence[Column], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which elements of label vectors are values, where the rest is padding.

    A slot is padding where all label vectors of floats of one length are zero, provided that this is so only
    from some slot on to the end, in every row. Vectors that are zero throughout have no say.

    Args:
        columns: the columns.
        values: a tensor [rows, *shape] for each.

    Returns:
        A mask [rows, length], bool, for each vector that is padded.
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    for column in columns:
        if len(column.shape) == 1 and column.role == "label" and column.dtype[1] == "f":
            groups.setdefault(column.shape, []).append(column.name)
    masks: dict[str, Tensor] = {}
    for names in groups.values():
        telling = [values[name] == 0 for name in names if values[name].any()]
        if not telling:
            continue
        padding = torch.stack(telling).all(0)
        trailing = padding.flip(1).cummin(1).values.flip(1)
        if padding.any() and torch.equal(padding, trailing):
            masks |= {name: ~padding for name in names}
    return masks


def _histogram(axes: Any, column: Column, values: Tensor, used: Tensor | None) -> None:
    flat = values.flatten() if used is None else values[used]
    unit = f", {column.unit}" if column.unit not in ("", "1") else ""
    axes.set_xlabel(f"{column.name}{unit}")
    axes.set_ylabel("elements" if column.shape else "rows")
    if used is not None:
        share = 1 - flat.numel() / values.numel()
        axes.set_title(f"without padding, {share:.0%} of the slots", fontsize="small")
    low, high = float(flat.min()), float(flat.max())
    if column.dtype[1] == "f" or high - low >= MOST_BARS:
        axes.hist(flat.double().numpy(), bins=MOST_BARS)
        return
    numbers, counts = torch.unique(flat, return_counts=True)
    axes.bar(numbers.numpy(), counts.numpy(), width=0.9)
    if len(numbers) <= 12:
        axes.set_xticks(numbers.tolist())
