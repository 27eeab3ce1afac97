"""The one finite number a trial reports: the best validation value so far, under a ceiling."""

import math
from collections.abc import Mapping
from typing import Any


class Objective:
    """Keeps the best value of a validation metric, lower being better.

    Args:
        ceiling: finite; what is reported while there is no finite value, and for values above it.
    """

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self.best_epoch = 0
        self._best = math.inf

    @property
    def reported(self) -> float:
        """`min(best so far, ceiling)`: always finite."""
        return min(self._best, self.ceiling)

    def update(self, value: float, epoch: int) -> None:
        """Take one epoch's value; a non-finite one never counts as best."""
        if math.isfinite(value) and value < self._best:
            self._best = value
            self.best_epoch = epoch

    def state(self) -> dict[str, Any]:
        """Plain values from which `load` goes on; JSON has no infinity."""
        return {"best": self._best if self.best_epoch else None, "best_epoch": self.best_epoch}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.best_epoch = state["best_epoch"]
        self._best = state["best"] if self.best_epoch else math.inf
