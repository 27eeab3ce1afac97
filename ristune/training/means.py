"""Sample-weighted means over an epoch."""

from collections.abc import Mapping

from torch import Tensor


class Means:
    """Sample-weighted means by name, summed in FP64 on the device without a host synchronisation."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a batch's values, one a sample, [B] each."""
        self._samples += len(next(iter(values.values())))
        for name, value in values.items():
            total = value.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def result(self) -> dict[str, float]:
        """The means, as host numbers."""
        return {name: (total / self._samples).item() for name, total in self._sums.items()}
