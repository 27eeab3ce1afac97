"""What is asked of batches, outputs and networks in more than one place."""

from collections.abc import Mapping

from torch import Tensor, nn


def rows_of(batch: Mapping[str, Tensor]) -> int:
    """The samples of a batch, B: all its columns lead with them."""
    return len(next(iter(batch.values())))


def inexact(tensor: Tensor) -> bool:
    """Whether a tensor is floating or complex: whether it can hold NaN and infinity, and have a gradient."""
    return tensor.is_floating_point() or tensor.is_complex()


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a network that require a gradient, by name; tied ones once."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
