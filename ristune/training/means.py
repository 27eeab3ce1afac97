"""Means over a split."""

from collections.abc import Mapping

from torch import Tensor

from ristune.errors import InputError


class Means:
    """Sample-weighted means by name, summed in FP64 on the device without a host synchronisation."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def add(self, values: Mapping[str, Tensor], rows: int) -> None:
        """Add a batch's values.

        Args:
            values: by metric one value a sample, [B].
            rows: B.

        Raises:
            InputError: if a metric is not one value a sample, or one is there in some batches only.
        """
        for name, value in values.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            if shape != (rows,):
                raise InputError(
                    f"task.metrics: {name!r}",
                    shape,
                    f"it must have the shape [B] = ({rows},), one value a sample",
                    "do not average over the batch: the trainer does",
                )
        if self._sums and set(self._sums) != set(values):
            raise InputError(
                "task.metrics",
                ", ".join(sorted(values)),
                f"every batch must have the metrics of the first one: {', '.join(sorted(self._sums))}",
                "return each of them always",
            )
        self._samples += rows
        for name, value in values.items():
            total = value.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def result(self) -> dict[str, float]:
        """The means, as host numbers."""
        return {name: (total / self._samples).item() for name, total in self._sums.items()}
