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

from ristune.errors import InputError, some
from ristune.training.average import Average
from ristune.training.schedule import Schedule
from ristune.training.tensors import trainable

# More names than these help nobody.
NAMED = 3


@dataclass(frozen=True)
class Attempt:
    """A window whose update is under way on the device.

    Attributes:
        terms: names of each micro-batch's loss terms.
        norms: norms of all parameters' gradients before clipping, [P], on the device; 0 for those that had
            none.
        skipped: whether the step was left, 1.0 or 0.0, a scalar on the device.
        report: on the host, [4 + ...]: whether it was left, the gradient scaler's scale before and after it,
            the global norm, then for each micro-batch its loss and its terms.
        copied: when the report has reached the host; None on the CPU.
        buffers: those of the network before the window, by name.
    """

    terms: Sequence[tuple[str, ...]]
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
        self._parameters = trainable(network)
        self._network = network
        self._optimizer = optimizer
        self._schedule = schedule
        self._average = average
        self._clip_norm = clip_norm
        self._scaler = scaler
        self._device = device
        self._one, self._zero = torch.ones((), device=device), torch.zeros((), device=device)
        # To look for them takes longer than the guard itself, in a network of many modules.
        self._has_buffers = any(True for _ in network.buffers())
        self._buffers: dict[str, Tensor] = {}
        self._pinned: dict[int, Tensor] = {}

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
        graded = [p for p in self._parameters.values() if p.grad is not None]
        norms = self._norms(graded)
        norm = torch.linalg.vector_norm(norms)
        finite_loss = torch.isfinite(torch.stack(list(losses)).sum())
        skipped = (~(finite_loss & torch.isfinite(norm))).float()
        torch.nn.utils.clip_grads_with_norm_(graded, self._clip_norm, norm)
        self._step(skipped)
        after = self._update_scale(scale, finite_loss)
        self._restore_buffers(skipped)
        told = [skipped, scale, after, norm]
        for loss, named in zip(losses, terms, strict=True):
            told += [loss, *named.values()]
        report, copied = self._to_host(torch.stack([value.detach() for value in told]))
        names = [tuple(named) for named in terms]
        return Attempt(names, norms, skipped, report, copied, self._buffers)

    def settle(self, attempt: Attempt) -> StepResult:
        """Read what became of a window, before the next one's `update`; schedule and average follow."""
        if attempt.copied is not None:
            attempt.copied.synchronize()
        skipped, scale, after, norm, *values = attempt.report.tolist()
        totals, named = [], []
        for names in attempt.terms:
            total, *terms = values[: 1 + len(names)]
            del values[: 1 + len(names)]
            totals.append(total)
            named.append(dict(zip(names, terms, strict=True)))
        losses = [{**terms, "loss": total} for total, terms in zip(totals, named, strict=True)]
        if not skipped:
            self._schedule.step()
            self._average.step()
            return StepResult(True, "", False, scale, norm, losses)
        calibrating = all(map(math.isfinite, totals)) and after < scale and scale > 1
        reason = self._fault(attempt.norms, totals, named, norm, scale)
        return StepResult(False, reason, calibrating, scale, norm, losses)

    def _norms(self, graded: Sequence[nn.Parameter]) -> Tensor:
        """Norms of all parameters' gradients, [P]: torch's own clipping keeps only the norm of these."""
        if not graded:
            raise InputError(
                "task.loss",
                "no gradient",
                "some trainable parameter of the network must have one",
                "leave `task.network` as it was built, and compute the loss from its output",
            )
        each = iter(torch._foreach_norm([p.grad for p in graded if p.grad is not None]))
        return torch.stack(
            [self._zero if p.grad is None else next(each).float() for p in self._parameters.values()]
        )

    def _update_scale(self, scale: Tensor, finite_loss: Tensor) -> Tensor:
        """Let the scaler follow the window; the scale after it, on the device."""
        if not self._scaler.is_enabled():
            return scale
        self._scaler.update()
        # A loss that is not finite is no fault of the scale: NaN in some samples would drive it to 0.
        after = torch.where(finite_loss, self._scaler.scale(self._one), scale)
        self._scaler.update(after)
        return after

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
        # The report before was read when this one is made; its length varies with the terms.
        if len(report) not in self._pinned:
            self._pinned[len(report)] = torch.empty(len(report), dtype=report.dtype, pin_memory=True)
        there = self._pinned[len(report)]
        there.copy_(report, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return there, copied

    def _fault(
        self,
        norms: Tensor,
        totals: Sequence[float],
        named: Sequence[Mapping[str, float]],
        norm: float,
        scale: float,
    ) -> str:
        """What was not finite in a window, by name: loss terms, or else parameters."""
        for total, terms in zip(totals, named, strict=True):
            bad = [f"{name!r} is {value}" for name, value in terms.items() if not math.isfinite(value)]
            if bad:
                return f"loss term {some(bad, NAMED)}"
            if not math.isfinite(total):
                return "each loss term is finite, their sum is not"
        finite = torch.isfinite(norms).tolist()
        names = [name for name, good in zip(self._parameters, finite, strict=True) if not good]
        if not names:
            return f"the global gradient norm is {norm}"
        scaled = f" at scale {scale:g}" if scale != 1 else ""
        return f"the gradient of {some(names, NAMED)} is not finite{scaled}"
