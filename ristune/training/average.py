"""The weights that are validated, saved and loaded: those of the optimizer, or their average."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from ristune.training.config import TrainingConfig
from ristune.training.forward import autocast, prepare
from ristune.training.task import Batch, Batches, Task


class Average:
    """No average, an exponential one over optimizer steps (EMA), or the mean over late epochs (SWA).

    Args:
        network: the network that is trained, on its device.
        config: which average, and its constants.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        self._network = network
        self._kind = config.average
        self._decay = config.ema_decay
        self._first = int(config.swa_start * config.epochs) + 1
        self._updates = 0
        self._averaged = None if self._kind == "none" else AveragedModel(network).requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """What is validated and saved: the average, once there is one."""
        if self._averaged is None or not self._updates:
            return self._network
        return self._averaged.module

    def step(self) -> None:
        """After an optimizer step that was taken."""
        if self._kind != "ema" or self._averaged is None:
            return
        self._updates += 1
        if self._updates == 1:
            self._averaged.update_parameters(self._network)
            return
        # Few steps have no long past: without this a short training would validate its first weights.
        decay = min(self._decay, self._updates / (9 + self._updates))
        # torch's rule, called here: `update_parameters` would make the host wait for a GPU at each step.
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(_values(self._averaged.module), _values(self._network), None)
        with torch.no_grad():
            for mine, theirs in zip(self._averaged.module.buffers(), self._network.buffers(), strict=True):
                mine.copy_(theirs)
        self._averaged.n_averaged += 1

    def epoch(self, epoch: int, task: Task, batches: Batches, precision: str, device: torch.device) -> None:
        """After an epoch of training: SWA takes its weights, and measures the statistics of BatchNorm anew.

        Args:
            epoch: which, from 1.
            task: prepares batches.
            batches: of training, for the statistics; read only where a module has some.
            precision: of the network's autocast.
            device: where batches lie.
        """
        if self._kind != "swa" or self._averaged is None or epoch < self._first:
            return
        self._averaged.update_parameters(self._network)
        self._updates += 1
        if not any(isinstance(module, _BatchNorm) for module in self._averaged.modules()):
            return
        with autocast(precision, device):
            update_bn(_prepared(task, batches.epoch(epoch), device), self._averaged)

    def tensors(self) -> dict[str, Tensor]:
        """The average's own tensors, none where there is no average."""
        if self._averaged is None:
            return {}
        return {name: tensor.detach() for name, tensor in self._averaged.state_dict().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `tensors`."""
        if self._averaged is not None:
            self._averaged.load_state_dict(tensors, strict=True)
            self._updates = int(self._averaged.n_averaged)


def _values(network: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]


def _prepared(task: Task, batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    for batch in batches:
        with torch.autocast(device.type, enabled=False):
            yield prepare(task, batch)
