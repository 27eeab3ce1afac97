"""One guarded update: optimizer, schedule and average advance together or not at all.

Whether a window is finite is known on the device first. The optimizer's step is taken or left there by a
flag, so that the host can go on; it reads the flag while the device works on the next window, before that
window's step, and lets schedule and average follow: one deferred host synchronisation a window on a GPU.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ristune.training.average import Average
from ristune.training.schedule import Schedule

# More names than these help nobody.
NAMED = 3


@dataclass(frozen=True)
class Attempt:
    """A window whose update is under way on the device.

    Attributes:
        terms: names of each micro-batch's loss terms.
        names: parameters that had a gradient.
        norms: norms of their gradients before clipping, [P], on the device.
        skipped: whether the step was left, 1.0 or 0.0, a scalar on the device.
        report: on the host, [3 + ...]: whether it was left, the gradient scaler's scale, the global norm,
            then for each micro-batch its loss and its terms.
        copied: when the report has reached the host; None on the CPU.
        buffers: those of the network before the window, by name.
    """

    terms: Sequence[tuple[str, ...]]
    names: tuple[str, ...]
    norms: Tensor
    skipped: Tensor
    report: Tensor
    copied: "torch.cuda.Event | None"
    buffers: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class StepResult:
    """What became of one window, on the host.

    Attributes:
        taken: whether the step was taken.
        reason: what was not finite, by name, if not.
        calibrating: the step was left only because the scale of FP16 gradients was still too large.
        scale: of the gradient scaler; 1 without one.
        norm: of the gradient, before clipping.
        losses: of each micro-batch, its terms by name and last `loss`, their sum.
    """

    taken: bool
    reason: str
    calibrating: bool
    scale: float
    norm: float
    losses: Sequence[Mapping[str, float]]


class GuardedStep:
    """Backward, clip, and one update unless something is not finite.

    A non-finite loss or gradient skips the window: neither weights nor moments, schedule, average or buffers
    (BatchNorm's statistics) move. Nothing is replaced by a finite number first.

    Args:
        network: whose trainable parameters' global gradient norm is guarded and clipped.
        optimizer: steps once a window.
        schedule: steps once per *taken* optimizer step.
        average: the same.
        clip_norm: bound of the global gradient norm.
        scaler: of gradients; enabled for `fp16` only.
        device: where the parameters lie.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        average: Average,
        clip_norm: float,
        scaler: torch.amp.GradScaler,
        device: torch.device,
    ) -> None:
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._network = network
        self._optimizer = optimizer
        self._schedule = schedule
        self._average = average
        self._clip_norm = clip_norm
        self._scaler = scaler
        self._device = device
        self._one = torch.ones((), device=device)
        # To look for them takes longer than the guard itself, in a network of many modules.
        self._has_buffers = any(True for _ in network.buffers())
        self._buffers: dict[str, Tensor] = {}
        self._pinned: dict[tuple[bool, int], Tensor] = {}
        self._turn = False

    def begin(self) -> None:
        """Start a window: no gradients, and the buffers as they are now kept aside."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._has_buffers:
            self._buffers = {name: buffer.detach().clone() for name, buffer in self._network.named_buffers()}

    def backward(self, loss: Tensor, weight: float) -> None:
        """Differentiate one micro-batch's loss (a scalar, FP32), `weight` being its share of the window."""
        torch.autograd.backward(self._scaler.scale(loss * weight if weight != 1.0 else loss))

    def update(self, losses: Sequence[Tensor], terms: Sequence[Mapping[str, Tensor]]) -> Attempt:
        """Unscale, clip, and let the device step or not.

        Args:
            losses: of each micro-batch, scalars without a gradient.
            terms: of each micro-batch, the same by name.
        """
        scale = self._scaler.scale(self._one)
        self._scaler.unscale_(self._optimizer)
        graded = {name: p for name, p in self._parameters.items() if p.grad is not None}
        # The norm of each gradient is wanted by name; torch's own clipping keeps only their norm.
        each = torch._foreach_norm([p.grad for p in graded.values() if p.grad is not None])
        norms = torch.stack([norm.float() for norm in each])
        norm = torch.linalg.vector_norm(norms)
        finite = torch.isfinite(norm)
        for loss in losses:
            finite = finite & torch.isfinite(loss)
        skipped = (~finite).float()
        torch.nn.utils.clip_grads_with_norm_(graded.values(), self._clip_norm, norm)
        self._step(skipped)
        self._scaler.update()
        self._restore_buffers(skipped)
        told = [skipped, scale, norm]
        for loss, named in zip(losses, terms, strict=True):
            told += [loss, *named.values()]
        report, copied = self._to_host(torch.stack([value.detach() for value in told]))
        names = [tuple(named) for named in terms]
        return Attempt(names, tuple(graded), norms, skipped, report, copied, self._buffers)

    def settle(self, attempt: Attempt) -> StepResult:
        """Read what became of a window, before the next one's `update`; schedule and average follow."""
        if attempt.copied is not None:
            attempt.copied.synchronize()
        skipped, scale, norm, *values = attempt.report.tolist()
        losses = []
        for names in attempt.terms:
            total, *terms = values[: 1 + len(names)]
            del values[: 1 + len(names)]
            losses.append({**dict(zip(names, terms, strict=True)), "loss": total})
        if not skipped:
            self._schedule.step()
            self._average.step()
            return StepResult(True, "", False, scale, norm, losses)
        finite = all(math.isfinite(each["loss"]) for each in losses)
        calibrating = self._scaler.is_enabled() and finite and scale > 1
        return StepResult(False, fault(attempt, losses, norm, scale), calibrating, scale, norm, losses)

    def _step(self, skipped: Tensor) -> None:
        if not self._optimizer.defaults["fused"]:
            if not skipped.item():
                self._optimizer.step()
            return
        # The protocol by which torch's GradScaler tells a fused optimizer; here for every precision.
        self._optimizer.found_inf = skipped  # type: ignore[attr-defined]
        self._optimizer.grad_scale = None  # type: ignore[attr-defined]
        self._optimizer.step()

    def _restore_buffers(self, skipped: Tensor) -> None:
        with torch.no_grad():
            for name, buffer in self._network.named_buffers() if self._buffers else ():
                before = self._buffers.get(name)
                # One that was made, or took another shape, in this window has nothing to go back to.
                if before is not None and before.shape == buffer.shape:
                    buffer.copy_(torch.where(skipped.bool(), before, buffer))

    def _to_host(self, report: Tensor) -> tuple[Tensor, "torch.cuda.Event | None"]:
        if self._device.type != "cuda":
            return report, None
        # Two windows are under way at most: each has memory of its own, whose size varies with the terms.
        self._turn = not self._turn
        key = self._turn, len(report)
        if key not in self._pinned:
            self._pinned[key] = torch.empty(len(report), dtype=report.dtype, pin_memory=True)
        there = self._pinned[key]
        there.copy_(report, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        return there, copied


def fault(attempt: Attempt, losses: Sequence[Mapping[str, float]], norm: float, scale: float) -> str:
    """What was not finite in a window, by name: loss terms, or else parameters."""
    for terms in losses:
        bad = [(k, v) for k, v in terms.items() if k != "loss" and not math.isfinite(v)]
        if bad:
            return "loss term " + ", ".join(f"{name!r} is {value}" for name, value in bad[:NAMED])
        if not math.isfinite(terms["loss"]):
            return "each loss term is finite, their sum is not"
    finite = torch.isfinite(attempt.norms).tolist()
    names = [name for name, good in zip(attempt.names, finite, strict=True) if not good]
    if not names:
        return f"the global gradient norm is {norm}"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    scaled = f" at scale {scale:g}" if scale != 1 else ""
    return f"the gradient of {', '.join(names[:NAMED])}{more} is not finite{scaled}"
