"""What a network is measured by: the task's metrics on the validation split."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ristune.errors import InputError
from ristune.training.diagnostics import Spread
from ristune.training.forward import forward
from ristune.training.means import Means
from ristune.training.rng import RandomState
from ristune.training.task import Batch, Batches, Output, Task
from ristune.training.tensors import rows_of


def require_metric(objective: str, metrics: Mapping[str, object]) -> None:
    """Refuse a validation that has not measured the objective.

    Args:
        objective: a metric's name.
        metrics: what was measured, by name.

    Raises:
        InputError: if it is not there.
    """
    if objective not in metrics:
        raise InputError(
            "training.objective",
            objective,
            f"it must be a metric of the task at every validation: {', '.join(sorted(metrics))}",
            "choose one of them, or add it to the task's `metrics`",
        )


class Validation:
    """Measures networks on one split.

    Args:
        task: prepares batches, and has the metrics.
        batches: the split.
        precision: of the network's autocast.
        device: where batches lie.
    """

    def __init__(self, task: Task, batches: Batches, precision: str, device: torch.device) -> None:
        self._task = task
        self._batches = batches
        self._precision = precision
        self._device = device

    def run(self, network: nn.Module, spread: Spread | None = None) -> dict[str, float]:
        """Sample-weighted mean of each of the task's metrics.

        Args:
            network: which is measured.
            spread: takes the outputs.

        Raises:
            InputError: if a metric is not one value a sample.
        """
        means = Means()
        for batch in self._batches.epoch(0):
            output, values = self._measure(network, batch)
            rows = rows_of(batch)
            means.add(values, rows)
            if spread is not None:
                spread.add(output, rows)
        return means.result()

    def check(self, network: nn.Module, objective: str) -> None:
        """Check on one batch that the objective is a metric: not an hour too late.

        Args:
            network: which is measured.
            objective: a metric's name.

        Raises:
            InputError: if it is none, or a metric is not one value a sample.
        """
        # A training that goes on looks once more than one that was never stopped: it must draw nothing.
        random = RandomState.capture(self._device)
        batch = next(iter(self._batches.epoch(0)))
        _, metrics = self._measure(network, batch)
        random.restore(self._device)
        require_metric(objective, metrics)
        Means().add(metrics, rows_of(batch))

    def _measure(self, network: nn.Module, batch: Batch) -> tuple[Output, Mapping[str, Tensor]]:
        network.eval()
        with torch.no_grad():
            output, prepared = forward(self._task, batch, self._precision, self._device, network)
            return output, self._task.metrics(output, prepared)
