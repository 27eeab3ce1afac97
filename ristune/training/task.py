"""The seam: what a user's own task offers, and what the trainer needs of its data."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

Batch = dict[str, Tensor]
Output = Tensor | Mapping[str, Tensor]


class Task(Protocol):
    """One learning problem: a network, its loss and its validation metrics.

    No inheritance is needed. A task is built from its YAML (`task: {_target_: ..., name: ...}`), and
    finds the dataset's columns in the batch under their names, leading dimension B.
    """

    network: nn.Module

    def loss(self, output: Output, batch: Batch) -> Mapping[str, Tensor]:
        """Named, weighted loss terms, each a scalar; the trainer sums them.

        Args:
            output: what the network returned, its floating tensors in FP32.
            batch: columns and what `prepare` added, in FP32 / complex64.
        """
        ...

    def metrics(self, output: Output, batch: Batch) -> Mapping[str, Tensor]:
        """Validation metrics by name, one value a sample, [B]; the trainer averages them."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """Optional hook of a task: inputs and labels derived on the device."""

    def prepare(self, batch: Batch) -> Batch:
        """Derive inputs and labels in FP32, outside autocast; the same call in training and validation."""
        ...


@runtime_checkable
class Attaches(Protocol):
    """Optional hook of a task: it is shown the dataset once, before the first batch."""

    def attach(self, dataset: object) -> None:
        """Read constants (codebooks, statistics) from the dataset.

        Raises:
            InputError: if the dataset does not fit the task.
        """
        ...


@runtime_checkable
class KnowsTruth(Protocol):
    """Optional hook of a task: an output that is exactly right (`python -m ristune.doctor`)."""

    def truth(self, batch: Batch) -> tuple[Output, Batch]:
        """Say what the network should have said, so that the loss is known to be minimal there.

        Args:
            batch: columns of the dataset, on the device.

        Returns:
            An output of the network's form, and a prepared batch for which it is exactly right: that of the
            columns, or one made up where no output is right for them.
        """
        ...


@runtime_checkable
class ChecksSamples(Protocol):
    """Optional hook of a task: it holds samples against what it knows of them (`dataset verify`)."""

    def check_sample(self, batch: Batch) -> Sequence[str]:
        """Find what no generic check can see, such as labels that do not belong to their data.

        Args:
            batch: some rows of one split, all columns of the dataset, as stored, on the CPU.

        Returns:
            A line for each fault, saying what is wrong and naming rows by the dataset's id; none if all is
            well.
        """
        ...


@runtime_checkable
class DrawsSamples(Protocol):
    """Optional hook of a task: it makes a picture of one sample (`dataset info --plot`)."""

    def draw_sample(self, sample: Batch, axes: Any) -> None:
        """Draw one sample.

        Args:
            sample: one row, all columns of the dataset, as stored, on the CPU, without a leading dimension.
            axes: matplotlib's `Axes` to draw on, empty, about 5 by 4 inches.
        """
        ...


@runtime_checkable
class EvaluatesCells(Protocol):
    """Optional hook of a task: it is measured cell by cell (`python -m ristune.evaluate --cells`)."""

    def cell_values(self, values: Mapping[str, float]) -> Mapping[str, Any]:
        """What the simulator draws a cell with.

        Args:
            values: of the cell, by names of the task's own choice.

        Returns:
            Values by path within the simulator's configuration.

        Raises:
            InputError: if the task knows no such name, or the value is not one.
        """
        ...

    def check_cell(self, parameters: Mapping[str, Any]) -> None:
        """Refuse samples that the network was not trained for.

        Args:
            parameters: of the simulator that is to draw them.

        Raises:
            InputError: saying what does not fit.
        """
        ...

    def evaluate_cells(
        self,
        cells: Mapping[str, Iterable[Batch]],
        predict: Callable[[Batch], tuple[Output, Batch]],
        scenes: int,
    ) -> Any:
        """Tables, or an object with `tables` and `figures`, as of `evaluate`.

        Args:
            cells: batches by title.
            predict: a batch to the network's output and the prepared batch.
            scenes: samples of each cell.
        """
        ...


class Batches(Protocol):
    """A split as the trainer sees it."""

    @property
    def rows(self) -> int:
        """Samples in one epoch."""
        ...

    def __len__(self) -> int:
        """Batches in one epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of one epoch, on the trainer's device, every sample exactly once.

        Args:
            epoch: the same number gives the same batches in the same order.
            start: the first batch to give, where a training goes on in mid-epoch.
        """
        ...
