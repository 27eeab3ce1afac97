"""Where a pass through a task first made a value that is not finite, and which values came of it."""

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ristune.training.culprit.finding import (
    LinAlgError,
    checkable,
    fails_below_zero,
    faults,
    has_nan,
    is_finite,
    magnitudes,
    where_now,
)
from ristune.training.culprit.modules import follow_modules
from ristune.training.culprit.moment import Case
from ristune.training.forward import forward


@dataclass(frozen=True)
class Origin:
    """Where non-finite values came into a pass.

    Attributes:
        order: which call of an operation it was, counted through the pass; below zero for what was given.
        kind: `fault`, of an operation; `fill`, a constant that the task put there, as masks are; `column` or
            `parameter`, given to the pass.
        name: the operation, column or parameter.
        stage: `prepare`, `forward` or `loss`.
        module: dotted name of the network's module, None outside of the network.
        where: the user's line.
        detail: what happened, with values.
    """

    order: int
    kind: str
    name: str
    stage: str
    module: str | None
    where: str | None
    detail: str


Origins = frozenset[Origin]


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if checkable(leaf)]


def _is_count(leaf: object) -> bool:
    return (
        isinstance(leaf, Tensor) and leaf.layout == torch.strided and leaf.dtype in (torch.int32, torch.int64)
    )


def _any_negative(tensors: Sequence[Tensor]) -> bool:
    return any(bool((tensor < 0).any()) for tensor in tensors if not tensor.is_complex())


class _Watch(TorchDispatchMode):
    """Follows non-finite values from the operation that made them to all that comes of them.

    Values are followed by storage, so views and in-place operations are, too. A storage with non-finite
    values is held: its address must not be used again.

    Args:
        repaired: calls of operations whose non-finite values are replaced by one.
    """

    def __init__(self, repaired: Collection[int]) -> None:
        # torch gives its constructor no types, and mypy's exclusion of torch does not reach through `super`.
        super().__init__()  # type: ignore[no-untyped-call]
        self.stage = "prepare"
        self.modules: list[str] = []
        self._repaired = repaired
        self._calls = 0
        self._known: dict[int, tuple[Any, Origins]] = {}
        self.refused = ("", Origins())
        # The last operation of linear algebra: another one raises on its behalf.
        self._checked: tuple[Any, list[Tensor], Origins]

    def give(self, kind: str, tensors: Mapping[str, Tensor]) -> None:
        """Name what the pass is given, before it: columns or parameters."""
        for name, tensor in tensors.items():
            if checkable(tensor) and not is_finite(tensor):
                self._mark(tensor, frozenset({Origin(-1, kind, name, "input", None, None, faults(tensor))}))

    def origins(self, tensor: Tensor) -> Origins:
        """What made a tensor's values non-finite; nothing if they are finite."""
        if not checkable(tensor) or is_finite(tensor):
            return frozenset()
        return self._marked(tensor)

    def _marked(self, tensor: Tensor) -> Origins:
        return self._known.get(tensor.untyped_storage()._cdata, (None, frozenset()))[1]

    def _mark(self, tensor: Tensor, origins: Origins) -> None:
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = (storage, origins)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self._calls += 1
        caller = sys._getframe(1)
        inputs = _tensors((args, kwargs))
        finite = [tensor for tensor in inputs if is_finite(tensor)]
        # What is only written over is no input: it may be memory from `empty`.
        unread = tree_leaves([kwargs.get(a.name) for a in func._schema.arguments if a.is_out])
        unread += args[:1] if func._schema.name == "aten::copy_" else []
        bad = [t for t in inputs if not any(t is other for other in (*finite, *unread))]
        nan = any(has_nan(tensor) for tensor in bad)
        parents = frozenset(origin for tensor in bad for origin in self._of(tensor, caller))
        # Of a division by a count, the count belongs to what is told; a write in place would overwrite it.
        numbers = [t for t in tree_leaves((args, kwargs)) if checkable(t) or _is_count(t)]
        kept = [t.clone() for t in numbers] if func._schema.is_mutable else numbers
        if "linalg" in func.__name__ and "check_errors" not in func.__name__:
            self._checked = (func, kept, parents)
        try:
            output = func(*args, **kwargs)
        except LinAlgError as error:
            told = f"raises {str(error).splitlines()[0]!r}"
            if "check_errors" in func.__name__:
                func, kept, parents = self._checked
            origin = self._origin("fault", func, told, kept, parents, caller)
            self.refused = (f"{origin.name}, which {told}", parents or frozenset({origin}))
            raise
        changed = _tensors(output)
        if func._schema.is_mutable:
            changed += finite
        for tensor in changed:
            if is_finite(tensor):
                continue
            # A write into a part leaves the rest of the storage as it was.
            rest = self._marked(tensor) if func._schema.is_mutable else frozenset()
            born = not bad
            if bad and not nan and has_nan(tensor):
                # Infinities of a mask are meant; NaN made from them is not.
                born = all(origin.kind == "fill" for origin in parents)
            if born:
                given = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, float))
                fill = any(not math.isfinite(value) for value in given) or "empty" in func.__name__
                told = f"output has {faults(tensor)}"
                origin = self._origin("fill" if fill else "fault", func, told, kept, parents, caller)
                if has_nan(tensor) and fails_below_zero(origin.name) and not parents and _any_negative(kept):
                    origin = replace(origin, detail=f"{origin.detail}, some negative")
                self._mark(tensor, rest | {origin})
                if self._calls in self._repaired:
                    tensor.masked_fill_(~torch.isfinite(tensor), 1)
            else:
                self._mark(tensor, parents | rest)
        return output

    def _of(self, tensor: Tensor, caller: Any) -> Origins:
        """What made a tensor that is not finite; one that nothing is known of is a constant of the task."""
        if not self._marked(tensor):
            detail = f"a constant tensor has {faults(tensor)}"
            module, where = self._module(), where_now(caller)
            origin = Origin(self._calls, "fill", "constant", self.stage, module, where, detail)
            self._mark(tensor, frozenset({origin}))
        return self._marked(tensor)

    def _module(self) -> str | None:
        return self.modules[-1] if self.modules else None

    def _origin(
        self, kind: str, func: Any, detail: str, inputs: Sequence[Tensor], parents: Origins, caller: Any
    ) -> Origin:
        name = f"aten.{func._schema.name.split('::')[-1]}"
        span = magnitudes(inputs)
        if parents:
            names = ", ".join(sorted({origin.name for origin in parents}))
            detail += f"; its inputs hold inf from {names}, but no NaN"
        elif span:
            detail += f"; its inputs are finite, {span} in magnitude"
        return Origin(self._calls, kind, name, self.stage, self._module(), where_now(caller), detail)


@dataclass(frozen=True)
class Pass:
    """One pass of a micro-batch through a task.

    Attributes:
        terms: the loss terms, scalars.
        made: what made each non-finite loss term so, by term.
        refused: the operation of linear algebra that refused its inputs, and what made them so, if one did;
            there are no terms then.
        prepared: the same of the prepared batch, by column.
        output: the same of the network's output, all its tensors together.
    """

    terms: dict[str, Tensor]
    made: dict[str, Origins]
    refused: tuple[str, Origins]
    prepared: dict[str, Origins]
    output: Origins

    def origins(self, term: str) -> Origins | None:
        """What made a term non-finite, or kept it from being; None if it is finite."""
        return self.refused[1] if self.refused[0] else self.made.get(term)


def trace(case: Case, precision: str, repaired: Collection[int] = ()) -> Pass:
    """Run a micro-batch through its task, and follow its non-finite values.

    Args:
        case: the micro-batch.
        precision: the network's autocast.
        repaired: `Origin.order` of faults to mend on the way: their non-finite values become one.

    Returns:
        The terms, and what made the non-finite ones so.
    """
    batch = case.begin()
    watch = _Watch(repaired)
    watch.give("column", batch)
    watch.give("parameter", {name: p.detach() for name, p in case.task.network.named_parameters()})

    def enter(name: str, _: Any) -> None:
        watch.stage = "forward" if name == "network" else watch.stage
        watch.modules.append(name)

    def leave(name: str, _: Any) -> None:
        watch.modules.pop()

    try:
        with follow_modules(case.task.network, enter, leave), watch:
            output, prepared = forward(case.task, batch, precision, case.device)
            watch.stage = "loss"
            terms = dict(case.task.loss(output, prepared))
    except LinAlgError:
        return Pass({}, {}, watch.refused, {}, frozenset())
    return Pass(
        terms=terms,
        made={name: watch.origins(term) for name, term in terms.items() if not is_finite(term)},
        refused=watch.refused,
        prepared={name: found for name, column in prepared.items() if (found := watch.origins(column))},
        output=frozenset(origin for leaf in _tensors(output) for origin in watch.origins(leaf)),
    )
