"""One batch through a task: the network under autocast, everything after it in FP32."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ristune.errors import InputError
from ristune.training.task import Batch, Output, Prepares, Task

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def full_precision(tensor: Tensor) -> Tensor:
    """Cast a floating tensor to FP32 and a complex one to complex64; leave the others."""
    if tensor.is_complex():
        return tensor.to(torch.complex64)
    return tensor.float() if tensor.is_floating_point() else tensor


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """What the network runs under, and nothing else does."""
    dtype = AUTOCAST_DTYPE[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def prepare(task: Task, batch: Batch) -> Batch:
    """A batch as the network takes it, in FP32, outside autocast."""
    if not isinstance(task, Prepares):
        return batch
    # A copy of the mapping: a task may assign into it, and the window is to be kept as stored.
    prepared = task.prepare(dict(batch))
    for name, value in prepared.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"task.prepare: {name!r}",
                type(value).__name__,
                "a batch holds tensors only",
                "make it a tensor, or keep it in the task",
            )
    return prepared


def forward(
    task: Task, batch: Batch, precision: str, device: torch.device, network: nn.Module | None = None
) -> tuple[Output, Batch]:
    """Prepare a batch and run the network on it; the same call in training, validation and evaluation.

    Args:
        task: the task.
        batch: columns of the dataset, on the device.
        precision: `bf16`, `fp16` or `fp32`: the network's autocast.
        device: where the batch lies.
        network: what runs in the place of the task's network: one with averaged weights.

    Returns:
        The network's output and the prepared batch, every floating tensor of both in FP32 / complex64.

    Raises:
        InputError: if the network returns neither a tensor nor a mapping of tensors.
    """
    batch = prepare(task, batch)
    with autocast(precision, device):
        output = (task.network if network is None else network)(batch)
    batch = {name: full_precision(tensor) for name, tensor in batch.items()}
    if isinstance(output, Mapping):
        return {name: full_precision(tensor) for name, tensor in output.items()}, batch
    if not isinstance(output, Tensor):
        raise InputError(
            "task.network",
            type(output).__name__,
            "it must return a tensor or a mapping of tensors",
            "return {'name': tensor, ...}",
        )
    return full_precision(output), batch


def total_loss(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of a task's named, weighted terms, a scalar.

    Raises:
        InputError: if the task returned no mapping, no term, a term that is not a scalar, or, while gradients
            are on, nothing that has one.
    """
    if not isinstance(terms, Mapping) or not terms:
        raise InputError(
            "task.loss",
            type(terms).__name__,
            "it must return at least one named term",
            'return {"name": loss}',
        )
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.ndim != 0:
            raise InputError(
                f"task.loss: {name!r}",
                tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__,
                "each term must be a tensor, a scalar",
                "average it over the batch",
            )
    total = torch.stack(list(terms.values())).sum()
    if torch.is_grad_enabled() and not total.requires_grad:
        raise InputError(
            "task.loss",
            ", ".join(terms),
            "it must depend on the network's parameters",
            "do not detach the output, nor compute the loss under no_grad",
        )
    return total
