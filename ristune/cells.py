"""Samples cell by cell: drawn by the task's simulator with some of its values fixed."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ristune.config import Config, build
from ristune.data.dataset import Dataset
from ristune.errors import InputError
from ristune.training.task import Batch, EvaluatesCells

# Sets the draws of cells apart from those of every dataset, which has (seed, split, shard).
STREAM = 0xCE11


def parse_cells(texts: Sequence[str]) -> list[dict[str, float]]:
    """Every combination of the values that are given by name.

    Args:
        texts: `NAME=VALUE,VALUE,...` each.

    Raises:
        InputError: if one is no name with numbers, or a name is given twice.
    """
    axes: dict[str, list[float]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not name or not numbers or not all(np.isfinite(numbers)):
            raise InputError("--cells", text, "it must be NAME=NUMBER,NUMBER,...", "as in snr=0,10 k=1,2")
        if name in axes:
            raise InputError("--cells", text, f"{name} must be given once", "join its values by commas")
        if len(set(numbers)) < len(numbers):
            raise InputError("--cells", text, "each value must be given once", "leave out the second one")
        axes[name] = numbers
    if not axes:
        raise InputError("--cells", " ".join(texts), "it must fix at least one value", "as in snr=0,10 k=1,2")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def title(cell: Mapping[str, float]) -> str:
    """`snr 10, k 2`."""
    return ", ".join(f"{name} {value:g}" for name, value in cell.items())


class Cell:
    """Samples of one cell, drawn when they are asked for and not kept.

    Args:
        config: as the checkpoint was trained with, but for what is to be another way.
        task: it knows which values of the simulator a cell fixes.
        values: of the cell, by name.
        dataset: what the task is attached to; its side tables must be those of the simulator.
        samples: how many.
        device: where they are to lie.

    Raises:
        InputError: if a value is refused, or the simulator is not that of the dataset.
    """

    def __init__(
        self,
        config: Config,
        task: EvaluatesCells,
        values: Mapping[str, float],
        dataset: Dataset,
        samples: int,
        device: torch.device,
    ) -> None:
        fixed = {f"simulator.{path}": value for path, value in task.cell_values(values).items()}
        self._config = config.with_values(fixed)
        if self._config.simulator is None:
            raise InputError(
                "--cells",
                title(values),
                "the task must have a simulator",
                "measure on a split of its dataset",
            )
        self._simulator = build(self._config.simulator)
        self._values, self._samples, self._device = values, samples, device
        task.check_cell(self._simulator.parameters())
        for name, (_, columns) in self._simulator.tables().items():
            stored = dataset.table(name)
            drawn = {key: torch.from_numpy(value) for key, value in columns.items()}
            same = stored.keys() == drawn.keys()
            if not same or not all(torch.equal(stored[key], drawn[key]) for key in drawn):
                raise InputError(
                    "simulator",
                    self._config.simulator["_target_"],
                    f"its {name} must be those of {dataset.uri}, which the network was trained with",
                    "give the simulator.* values of that dataset",
                )

    def __iter__(self) -> Iterator[Batch]:
        """Batches, the same ones each time."""
        # Seeds take whole numbers only: the bits of each value.
        bits = [int(np.float64(value).view(np.uint64)) for _, value in sorted(self._values.items())]
        rng = np.random.default_rng([STREAM, self._simulator.seed, *bits])
        left = self._samples
        while left:
            rows = min(left, self._config.training.batch_size)
            drawn = self._simulator.draw(rows, rng)
            yield {name: self._tensor(column) for name, column in drawn.items()}
            left -= rows

    def _tensor(self, column: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(column)).to(self._device)
