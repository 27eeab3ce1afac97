"""One training step: the network under autocast, the loss in FP32, and one guarded update."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ristune.errors import InputError
from ristune.training.task import Batch, Output, Prepares, Task

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def resolve_device(name: str) -> torch.device:
    """The device that `training.device` asks for; `auto` takes a GPU if there is one.

    Raises:
        InputError: if a GPU is asked for and torch sees none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "training.device", name, "torch must see a GPU", "set training.device=cpu, or install a driver"
        )
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision that `training.precision` asks for; `auto` takes BF16 on a GPU that has it, else FP32."""
    if name != "auto":
        return name
    return (
        "bf16"
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        else "fp32"
    )


def full_precision(tensor: Tensor) -> Tensor:
    """Cast a floating tensor to FP32 and a complex one to complex64; leave the others."""
    if tensor.is_complex():
        return tensor.to(torch.complex64)
    return tensor.float() if tensor.is_floating_point() else tensor


def forward(task: Task, batch: Batch, precision: str, device: torch.device) -> tuple[Output, Batch]:
    """Prepare a batch and run the network on it; the same call in training and validation.

    Args:
        task: the task.
        batch: columns of the dataset, on the device.
        precision: `bf16`, `fp16` or `fp32`: the network's autocast.
        device: where the batch lies.

    Returns:
        The network's output and the prepared batch, every floating tensor of both in FP32 / complex64.
    """
    if isinstance(task, Prepares):
        batch = task.prepare(batch)
    dtype = AUTOCAST_DTYPE[precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        output = task.network(batch)
    batch = {name: full_precision(tensor) for name, tensor in batch.items()}
    if isinstance(output, Mapping):
        return {name: full_precision(tensor) for name, tensor in output.items()}, batch
    return full_precision(output), batch


def total_loss(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of a task's named, weighted terms, a scalar.

    Raises:
        InputError: if the task returned no mapping, no term, or a term that is not a scalar.
    """
    if not isinstance(terms, Mapping) or not terms:
        raise InputError(
            "task.loss",
            type(terms).__name__,
            "it must return at least one named term",
            'return {"name": loss}',
        )
    for name, term in terms.items():
        if term.ndim != 0:
            raise InputError(
                f"task.loss: {name!r}",
                tuple(term.shape),
                "each term must be a scalar",
                "average it over the batch",
            )
    return torch.stack(list(terms.values())).sum()


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
