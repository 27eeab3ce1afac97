"""Tasks that fail as a user's own do."""

import os
import signal
import sys
from typing import Any

from torch import Tensor

from tests.toy import ToyTask


class FailingTask(ToyTask):
    """The toy task, which fails at an epoch in a way of one's choice.

    Args:
        how: `renamed`: its metrics have another name; `late`: for some samples; `exit`: ends the process the
            Python way; `killed`: as the system does when memory runs out; `once`: the same, but only once.
        at: the first validation at which it does so; the first is the look at one batch before all epochs.
    """

    def __init__(self, width: int, scale: float, how: str, at: int, marker: str) -> None:
        super().__init__(width, scale)
        self.how = how
        self.at = at
        self.marker = marker
        self.measured = 0

    def metrics(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.measured += 1
        metrics = super().metrics(output, batch)
        return self._fail(metrics) if self.how and self.measured >= self.at else metrics

    def _fail(self, metrics: dict[str, Tensor]) -> Any:
        if self.how == "renamed":
            return {"error": metrics["mse"]}
        if self.how == "nothing":
            return {}
        if self.how == "none":
            return None
        if self.how == "exit":
            sys.exit(3)
        if self.how == "killed" or not os.path.exists(self.marker):
            open(self.marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return metrics
