"""One batch through a task: the network under autocast, everything after it in FP32."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.training.task import Batch, Output, Prepares, Task

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


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
