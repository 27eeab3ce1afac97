"""What is said of a value that is not finite: the operation, the user's line, and what to do about it."""

import linecache
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
)

# What operations raise that refuse their inputs; torch does not declare that it is public.
LinAlgError = torch.linalg.LinAlgError  # type: ignore[attr-defined]

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parents[1])
_TRACEBACK_LINE = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>\S+)\n?\s*(?P<code>.*)')

# What to do, by operation: aten's name, or the autograd node's without "Backward", in lower case.
_REMEDIES = (
    (
        ("log", "log2", "log10", "log1p", "xlogy"),
        "keep the log's input above zero: clamp it or use `where` before the log, not after it, "
        "as a mask after the log does not stop its gradient",
    ),
    (("sqrt", "rsqrt"), "clamp to a small positive number before the root, not after it"),
    (
        ("pow",),
        "keep what is raised finite, and above zero under a fractional power: clamp it or use `where` before",
    ),
    (
        ("div", "reciprocal"),
        "keep the denominator away from zero: add a small number to it or use `where` before the division",
    ),
    (
        ("exp", "expm1", "exp2", "cosh", "sinh"),
        "bound the exponent, or stay in logarithms (`logsumexp`, `log_softmax`)",
    ),
    (
        ("softmax", "safesoftmax", "logsoftmax", "logsumexp"),
        "leave at least one entry of every row unmasked, or drop such rows before",
    ),
    (
        ("linalgeigh", "linalgeig", "linalgsvd"),
        "do not differentiate eigenvectors or singular vectors, whose gradient has no bound where values "
        "coincide: use the values alone, or a projector built from ground truth (or detached)",
    ),
    (
        ("linalgsolveex", "linalginvex", "linalgcholeskyex", "choleskysolve", "linalglstsq", "linalgqr"),
        "add a ridge to the matrix, which is singular or nearly so",
    ),
    (("acos", "asin", "atanh", "acosh"), "clamp its input strictly inside the domain"),
    (("atan2", "angle"), "keep its argument away from zero by `where` before it"),
    (("constant",), "mend the constant where the task makes it"),
    (
        ("maskedfill", "full", "fulllike", "newfull", "fill", "scalartensor", "where", "constantpadnd"),
        "if the value is meant, as in a mask, take it out again before the loss",
    ),
    (
        ("empty", "emptylike", "newempty", "emptystrided"),
        "write memory from `torch.empty` before reading it, or use `torch.zeros`",
    ),
)


@dataclass(frozen=True)
class Finding:
    """One cause of a loss or gradient that is not finite.

    Attributes:
        stage: `input`, `prepare`, `forward`, `loss` or `backward`.
        term: the loss term's name where it concerns one.
        operation: such as `aten.log` or `LinalgEighBackward0`; None where no single one is to blame.
        module: dotted name of the network's module that it happened in, `network` being the network's own
            `forward`; None outside of it.
        parameters: parameters whose gradient is not finite.
        where: `file.py:12 in loss: code`, the innermost line of the user's own source.
        detail: one sentence: what happened, with values.
        remedy: one sentence: what to do about it.
        effect: whether a loss term or a gradient is not finite by it, as far as is known.
    """

    stage: str
    term: str | None
    operation: str | None
    module: str | None
    parameters: tuple[str, ...]
    where: str | None
    detail: str
    remedy: str
    effect: bool = True


def checkable(leaf: object) -> bool:
    """Whether it is a tensor that can hold a non-finite value and say so."""
    return (
        isinstance(leaf, Tensor)
        and leaf.layout == torch.strided
        and leaf.dtype in DTYPES
        and leaf.device.type != "meta"
    )


def is_finite(tensor: Tensor) -> bool:
    """Whether each value is finite."""
    return bool(torch.isfinite(tensor).all())


def has_nan(tensor: Tensor) -> bool:
    """Whether a value is NaN."""
    return bool(torch.isnan(tensor).any())


def faults(tensor: Tensor) -> str:
    """How much of a tensor is not finite: `3 of 64 values inf in float16`."""
    nan = int(torch.isnan(tensor).sum())
    infinite = int((~torch.isfinite(tensor)).sum()) - nan
    kinds = " and ".join(f"{count} {kind}" for count, kind in ((nan, "NaN"), (infinite, "inf")) if count)
    if not (nan and infinite):
        kinds = f"{nan or infinite} of {tensor.numel()} values {'NaN' if nan else 'inf'}"
    else:
        kinds = f"{kinds} of {tensor.numel()} values"
    return f"{kinds} in {str(tensor.dtype).removeprefix('torch.')}"


def magnitudes(tensors: Iterable[Tensor]) -> str:
    """Smallest and largest finite magnitude of some tensors: `0 to 7.2e+04`; empty if there is none."""
    bounds: list[float] = []
    for tensor in tensors:
        values = tensor.detach()[torch.isfinite(tensor.detach())].abs()
        if values.numel():
            bounds += [float(values.min()), float(values.max())]
    if not bounds:
        return ""
    low, high = f"{min(bounds):.2g}", f"{max(bounds):.2g}"
    return low if low == high else f"{low} to {high}"


def _locate(frames: Iterable[tuple[str, int, str, str]]) -> str | None:
    for file, line, name, code in frames:
        if Path(file).is_relative_to(_OURS):
            return None
        if not Path(file).is_relative_to(_TORCH) and not file.startswith("<"):
            return f"{Path(file).name}:{line} in {name}: {code}".rstrip(": ")
    return None


def where_now(frame: FrameType | None) -> str | None:
    """The user's innermost line, from a frame outwards as far as ristune's own."""
    frames = []
    while frame is not None:
        code = frame.f_code
        line = linecache.getline(code.co_filename, frame.f_lineno).strip()
        frames.append((code.co_filename, frame.f_lineno, code.co_name, line))
        frame = frame.f_back
    return _locate(frames)


def where_then(traceback: Iterable[str]) -> str | None:
    """The user's innermost line in what autograd's anomaly mode kept of a node's forward call.

    Args:
        traceback: entries of `traceback.format_stack`, outermost first.
    """
    matches = [_TRACEBACK_LINE.search(entry) for entry in reversed(list(traceback))]
    return _locate((m["file"], int(m["line"]), m["name"], m["code"].strip()) for m in matches if m)


def _key(operation: str) -> str:
    name = operation.removeprefix("aten.").split("::")[-1].lower()
    return re.sub(r"backward\d*$", "", name).replace("_", "")


def fails_near_zero(operation: str) -> bool:
    """Whether an operation fails on small inputs, so that half precision underflowed before it."""
    return _key(operation) in ("log", "log2", "log10", "reciprocal", "div", "rsqrt")


def fails_below_zero(operation: str) -> bool:
    """Whether an operation makes NaN of negative numbers."""
    return _key(operation) in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "pow")


def remedy_of(operation: str) -> str:
    """What to do about an operation, or a node, that made a value that is not finite."""
    for names, remedy in _REMEDIES:
        if _key(operation) in names:
            return remedy
    return "keep what enters this operation finite and in bounds; a mask after it does not stop its gradient"
