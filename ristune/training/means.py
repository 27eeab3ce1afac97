"""Sample-weighted means over an epoch."""

from collections.abc import Mapping

from torch import Tensor


class Means:
    """Sample-weighted means by name, summed in FP64 on the device without a host synchronisation.

    Attributes:
        sums: by name, FP64 scalars on the device.
        samples: how many.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.samples = 0

    def add(self, values: Mapping[str, Tensor], samples: int) -> None:
        """Add values that are means over `samples` samples, or one value a sample, [B]."""
        self.samples += samples
        for name, value in values.items():
            weighted = value.detach().double().mean() * samples
            self.sums[name] = self.sums[name] + weighted if name in self.sums else weighted

    def result(self) -> dict[str, float]:
        """The means, as host numbers."""
        return {name: (total / self.samples).item() for name, total in self.sums.items()}
