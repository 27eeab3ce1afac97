"""Which node of the graph first made a gradient that is not finite."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves

from ristune.training.culprit.finding import checkable, faults, is_finite, magnitudes, remedy_of, where_then
from ristune.training.culprit.modules import follow_modules
from ristune.training.culprit.moment import Case
from ristune.training.forward import forward

_MODULE = "ristune.module"


@dataclass(frozen=True)
class Culprit:
    """A node of the graph.

    Attributes:
        node: its name, such as `SqrtBackward0`.
        module: the network's module whose forward call made it; None outside of the network.
        where: the user's line that made it.
        detail: what it was given and what it made.
        remedy: what to do about it.
    """

    node: str
    module: str | None
    where: str | None
    detail: str
    remedy: str


@dataclass(frozen=True)
class Gradients:
    """Gradients of one micro-batch, still multiplied by the scale.

    Attributes:
        total: of all terms together, by parameter, those without one are left out.
        bad: parameters whose gradient is not finite, by term that is bad alone; a parameter list under None
            if only the terms' sum is bad; empty if all is well.
        culprits: the node to blame, for the same keys.
        lost: terms that are not finite themselves, and were left out.
    """

    total: dict[str, Tensor]
    bad: dict[str | None, tuple[str, ...]]
    culprits: dict[str | None, Culprit | None]
    lost: tuple[str, ...]


def _metadata(node: Node) -> dict[str, Any]:
    # torch declares the property as a method.
    return cast(dict[str, Any], node.metadata)


def _nodes(roots: Collection[Node | None]) -> Iterator[Node]:
    seen = set()
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        todo.extend(following for following, _ in node.next_functions)


@contextmanager
def _modules_noted(network: nn.Module) -> Iterator[None]:
    """Note in each node of the graph the module whose forward call made it."""
    modules: list[str] = []

    def note(tree: object) -> None:
        name = modules[-1] if modules else None
        todo = [leaf.grad_fn for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
        while todo:
            node = todo.pop()
            # What lies behind a node that is noted is noted already.
            if node is not None and _MODULE not in _metadata(node):
                _metadata(node)[_MODULE] = name
                todo.extend(following for following, _ in node.next_functions)

    def enter(name: str, args: Any) -> None:
        note(args)
        modules.append(name)

    def leave(name: str, output: Any) -> None:
        note(output)
        modules.pop()

    with follow_modules(network, enter, leave):
        yield


def _kept(node: Node) -> str:
    """What a node kept of its forward call, in words; empty if that is nothing, or was written over."""
    tensors = []
    # A tensor that was packed by a hook, or written over in place, cannot be had again.
    with suppress(RuntimeError):
        names = [name for name in dir(node) if name.startswith("_saved_")]
        tensors = [leaf for leaf in tree_leaves([getattr(node, name) for name in names]) if checkable(leaf)]
    for tensor in tensors:
        if not is_finite(tensor):
            return f"; of its forward call it keeps a tensor with {faults(tensor)}"
    span = magnitudes(tensors)
    return f"; what it keeps of its forward call is {span} in magnitude" if span else ""


def _blame(network: nn.Module, terms: Collection[Tensor], scale: float) -> Culprit | None:
    """The first node, in a backward run, that makes a non-finite gradient of finite ones."""
    makers: list[tuple[Node, str]] = []
    takers: list[Node] = []

    def hook(node: Node, made: Any, given: Any) -> None:
        incoming = [leaf for leaf in given if checkable(leaf)]
        if makers:
            return
        if not all(is_finite(gradient) for gradient in incoming):
            takers.append(node)
            return
        for gradient in made:
            if checkable(gradient) and not is_finite(gradient):
                detail = f"the gradient it makes has {faults(gradient)}"
                span = magnitudes(incoming)
                detail += f"; the gradient it is given is finite, {span} in magnitude" if span else ""
                makers.append((node, detail))
                return

    handles = []
    for node in _nodes([term.grad_fn for term in terms]):
        handles.append(node.register_hook(lambda made, given, node=node: hook(node, made, given)))
    try:
        _backward(network, terms, scale)
    finally:
        for handle in handles:
            handle.remove()
    if makers:
        node, detail = makers[0]
        return _culprit(node, detail + _kept(node), remedy_of(node.name()))
    if takers:
        # Between nodes gradients are summed, and the hooks of tensors run.
        detail = "a sum of finite gradients, or a tensor's hook, on the way into this node is not finite"
        return _culprit(takers[0], detail, "scale the loss down, or look at the hooks of tensors")
    return None


def _culprit(node: Node, detail: str, remedy: str) -> Culprit:
    metadata = _metadata(node)
    where = where_then(metadata.get("traceback_", ()))
    return Culprit(node.name().split("::")[-1], metadata.get(_MODULE), where, detail, remedy)


def _drop_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = None


def _backward(network: nn.Module, terms: Collection[Tensor], scale: float) -> dict[str, Tensor]:
    _drop_gradients(network)
    seeds = [torch.full_like(term, scale) for term in terms]
    torch.autograd.backward(list(terms), seeds, retain_graph=True)
    named = network.named_parameters()
    gradients = {name: p.grad.detach() for name, p in named if p.grad is not None}
    _drop_gradients(network)
    return gradients


def _bad(gradients: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(name for name, gradient in gradients.items() if not is_finite(gradient))


def differentiate(case: Case, precision: str, scale: float, only: Collection[str] | None = None) -> Gradients:
    """Run a micro-batch through its task, and its finite loss terms backward.

    Args:
        case: the micro-batch; its network's gradients are dropped.
        precision: the network's autocast.
        scale: what the terms are multiplied by.
        only: the terms to differentiate; all finite ones by default.

    Returns:
        The gradients, and for the bad ones terms, parameters and nodes.
    """
    network = case.task.network
    batch = case.begin()
    # Without `check_nan`, which would stop a loss that itself differentiates at its first NaN.
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        with _modules_noted(network):
            output, prepared = forward(case.task, batch, precision, case.device)
        found = case.task.loss(output, prepared)
        asked = {name: term for name, term in found.items() if only is None or name in only}
        lost = tuple(name for name, term in asked.items() if not is_finite(term))
        terms = {name: term for name, term in asked.items() if name not in lost and term.requires_grad}
    if not terms:
        return Gradients({}, {}, {}, lost)
    total = _backward(network, terms.values(), scale)
    bad: dict[str | None, tuple[str, ...]] = {}
    culprits: dict[str | None, Culprit | None] = {}
    if not _bad(total):
        return Gradients(total, {}, {}, lost)
    for name, term in terms.items():
        if names := _bad(_backward(network, [term], scale)):
            bad[name] = names
    if not bad:
        bad[None] = _bad(total)
    for key in bad:
        roots = [terms[key]] if key is not None else list(terms.values())
        culprits[key] = _blame(network, roots, scale)
    return Gradients(total, bad, culprits, lost)
