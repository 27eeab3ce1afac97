"""A simulator that takes its time, so that something can happen meanwhile."""

import os
import time
from collections.abc import Mapping

import numpy as np

from tests.toy import ToySimulator

# Seconds a draw; part of no parameter, so that the dataset is the same at any pace.
PACE = "SLOW_SIMULATOR_PACE"


class SlowSimulator(ToySimulator):
    """The toy's samples, at a pace."""

    name = "slow"

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        time.sleep(float(os.environ.get(PACE, "0")))
        return super().draw(rows, rng)
