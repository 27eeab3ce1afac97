"""The weights that are validated, saved and loaded: those of the optimizer, or their average."""

from collections.abc import Iterator
from copy import deepcopy

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
        # Rounded first: 0.29 of 100 is 29, whatever the last bit of the product.
        self._first = int(round(config.swa_start * config.epochs, 6)) + 1
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
        # torch's rule, called here: `update_parameters` would make the host wait for a GPU at each step, and
        # copy buffers that the next window has changed already.
        update = get_ema_multi_avg_fn(decay)
        update(_values(self._averaged.module), _values(self._network), None)
        self._averaged.n_averaged += 1

    def epoch(self, epoch: int, task: Task, batches: Batches, precision: str, device: torch.device) -> None:
        """After an epoch of training, before its validation: buffers follow, and SWA takes its weights.

        EMA has the network's own buffers. For SWA the statistics of BatchNorm are measured anew, on the
        batches that are finite; those of a module that the network keeps in eval mode stay.

        Args:
            epoch: which, from 1.
            task: prepares batches.
            batches: of training, for the statistics; read only where a module has some.
            precision: of the network's autocast.
            device: where batches lie.
        """
        if self._averaged is None or not (self._kind == "ema" or epoch >= self._first):
            return
        if self._kind == "swa":
            self._averaged.update_parameters(self._network)
            self._updates += 1
        with torch.no_grad():
            for mine, theirs in zip(self._averaged.module.buffers(), self._network.buffers(), strict=True):
                mine.copy_(theirs)
        norms = [module for module in self._averaged.modules() if isinstance(module, _BatchNorm)]
        if self._kind == "ema" or not norms:
            return
        self._averaged.train()
        frozen = {m: deepcopy(m.state_dict()) for m in norms if not m.training}
        with autocast(precision, device):
            update_bn(_prepared(task, batches.epoch(epoch), device), self._averaged)
        for module, state in frozen.items():
            module.load_state_dict(state)

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
            prepared = prepare(task, batch)
        if all(torch.isfinite(tensor).all() for tensor in prepared.values()):
            yield prepared
