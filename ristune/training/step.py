"""One guarded update: optimizer and schedule together or not at all."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class StepResult:
    """What became of one window: whether the step was taken, and its gradient norm before clipping."""

    taken: bool
    grad_norm: float
    reason: str


class GuardedStep:
    """Backward, clip, and optimizer and scheduler together or not at all.

    A non-finite loss or gradient skips the window: no state moves, neither weights nor moments nor the
    schedule. Nothing is replaced by a finite number first.

    Args:
        parameters: the trainable parameters, whose global norm is guarded and clipped.
        optimizer: steps once a window.
        scheduler: steps once per *taken* optimizer step.
        clip_norm: bound of the global gradient norm.
        precision: a gradient scaler is used for `fp16` only.
        device: where the parameters lie.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler,
        clip_norm: float,
        precision: str,
        device: torch.device,
    ) -> None:
        self._parameters = list(parameters)
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._clip_norm = clip_norm
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def __call__(self, loss: Tensor) -> StepResult:
        """Differentiate `loss` (a scalar, FP32) and update, unless something is not finite."""
        self._optimizer.zero_grad(set_to_none=True)
        if not bool(torch.isfinite(loss)):
            return StepResult(False, float("nan"), f"the loss is {loss.item()}")
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm).item()
        taken = norm < float("inf")
        if taken:
            self._scaler.step(self._optimizer)
            self._scheduler.step()
        self._scaler.update()
        return StepResult(taken, norm, "" if taken else f"the gradient norm is {norm}")
