"""Which module of a network is running."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def follow_modules(
    network: nn.Module, enter: Callable[[str, Any], None], leave: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call back as modules of a network begin and end.

    Args:
        network: the network; it is called `network`, the others by their dotted names.
        enter: called with the name and the positional arguments.
        leave: called with the name and the output.
    """
    handles = []
    for name, module in network.named_modules():
        name = name or "network"
        handles.append(
            module.register_forward_pre_hook(lambda _, args, name=name: enter(name, args), prepend=True)
        )
        handles.append(module.register_forward_hook(lambda _, args, output, name=name: leave(name, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
