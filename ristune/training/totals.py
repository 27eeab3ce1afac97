"""What one epoch of training sums up, on the device, until its record reads it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ristune.training.diagnostics import Watch
from ristune.training.means import Means
from ristune.training.step import Attempt
from ristune.training.task import Batch


class Totals:
    """Sums of one epoch.

    Args:
        clip_norm: gradients of a larger norm were clipped.
        watch: of the parameters, by group; None without diagnostics.
        device: where sums lie.

    Attributes:
        means: of the loss and its terms.
        watch: as given.
        steps: taken.
        failed: windows skipped for a fault, not for a scaler that was still finding its scale.
        cause: of the last window that was skipped.
        waiting: seconds waited for data.
        seconds: of training.
    """

    def __init__(self, clip_norm: float, watch: Watch | None, device: torch.device) -> None:
        self.means = Means()
        self.watch = watch
        self.steps = self.failed = 0
        self.cause = ""
        self.waiting = self.seconds = 0.0
        self._clip_norm = clip_norm
        self._norm = torch.zeros((), dtype=torch.float64, device=device)
        self._clipped = torch.zeros((), device=device)
        self._inputs: dict[str, Tensor] = {}

    def add(self, attempt: Attempt, losses: Sequence[Tensor], sizes: Sequence[int]) -> None:
        """Take a window whose update is under way.

        Args:
            attempt: the window's.
            losses: of its micro-batches, scalars.
            sizes: their samples.
        """
        for terms, loss, size in zip(attempt.terms, losses, sizes, strict=True):
            self.means.add({**terms, "loss": loss}, size)
        self._norm += torch.where(attempt.skipped.bool(), 0.0, attempt.norm)
        self._clipped += torch.where(attempt.skipped.bool(), 0.0, attempt.norm > self._clip_norm)
        if self.watch is not None:
            self.watch.add(attempt)

    def check_inputs(self, batch: Batch) -> None:
        """Look for NaN and infinity in a batch's columns, without waiting for the device."""
        for name, column in batch.items():
            if not (column.is_floating_point() or column.is_complex()):
                continue
            # One pass without a mask: a sum in FP32 or wider is finite if and only if all of it is, or it is
            # so large that nothing could be learned from it.
            total = column.sum(dtype=torch.promote_types(column.dtype, torch.float32))
            bad = (~torch.isfinite(total)).long()
            self._inputs[name] = self._inputs[name] + bad if name in self._inputs else bad

    @property
    def grad_norm(self) -> float:
        """Mean over the steps taken, NaN if there was none."""
        return self._norm.item() / self.steps if self.steps else math.nan

    @property
    def clipped(self) -> float:
        """Share of the steps taken that were clipped, NaN if there was none."""
        return self._clipped.item() / self.steps if self.steps else math.nan

    @property
    def inputs(self) -> dict[str, int]:
        """Batches with NaN or infinity by column, of the columns that had any."""
        counts = {name: int(count.item()) for name, count in self._inputs.items()}
        return {name: counts[name] for name in sorted(counts) if counts[name]}

    def values(self) -> dict[str, Any]:
        """What is on the host, plain values."""
        kept = ("steps", "failed", "cause", "waiting", "seconds")
        names = list(self.means.sums)
        return {"samples": self.means.samples, "means": names, **{name: getattr(self, name) for name in kept}}

    def tensors(self) -> dict[str, Tensor]:
        """What is on the device."""
        tensors = {"norm": self._norm, "clipped": self._clipped}
        tensors |= {f"mean/{name}": total for name, total in self.means.sums.items()}
        tensors |= {f"input/{name}": count for name, count in self._inputs.items()}
        if self.watch is not None:
            tensors |= {"watch_norms": self.watch.norms, "watch_touched": self.watch.touched}
        return tensors

    def load(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from `values` and `tensors`."""
        there = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.means.samples = values["samples"]
        for name in ("steps", "failed", "cause", "waiting", "seconds"):
            setattr(self, name, values[name])
        self._norm, self._clipped = there.pop("norm"), there.pop("clipped")
        if self.watch is not None:
            self.watch.norms, self.watch.touched = there.pop("watch_norms"), there.pop("watch_touched")
        # In the order in which they were: a file of tensors keeps none.
        self.means.sums = {name: there[f"mean/{name}"] for name in values["means"]}
        self._inputs = {k.removeprefix("input/"): v for k, v in there.items() if k.startswith("input/")}


def bad_columns(batches: Sequence[Batch]) -> str:
    """The columns of a window that hold NaN or infinity, and in how many samples; empty if none does."""
    found = []
    rows = sum(len(next(iter(batch.values()))) for batch in batches)
    for name, column in batches[0].items():
        if column.is_floating_point() or column.is_complex():
            flat = [torch.isfinite(batch[name]).reshape(len(batch[name]), -1) for batch in batches]
            bad = rows - int(sum(part.all(1).sum().item() for part in flat))
            if bad:
                found.append(f"column {name!r} holds NaN or infinity in {bad} of {rows} samples")
    return ", ".join(found)
