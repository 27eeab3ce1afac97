"""What one epoch of training sums up, until its record reads it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ristune.training.diagnostics import Watch
from ristune.training.step import StepResult
from ristune.training.task import Batch
from ristune.training.tensors import inexact, rows_of

KEPT = ("counts", "steps", "norm", "clips", "failed", "cause", "waiting", "seconds", "wall")


class Totals:
    """Sums of one epoch.

    Args:
        clip_norm: gradients of a larger norm were clipped.
        watch: of the parameters, by group; None without diagnostics.

    Attributes:
        watch: as given.
        sums: of the loss and its terms, by name, weighted by samples.
        counts: samples of these, by name.
        steps: taken.
        norm: summed over the steps taken.
        clips: steps taken whose gradient was clipped.
        failed: windows skipped for a fault, not for a scaler that was still finding its scale.
        cause: of the last window that was skipped.
        waiting: seconds waited for data.
        seconds: of training.
        wall: seconds of the epoch before it was paused.
    """

    def __init__(self, clip_norm: float, watch: Watch | None) -> None:
        self.watch = watch
        self.steps = self.clips = self.failed = 0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.norm = self.waiting = self.seconds = self.wall = 0.0
        self.cause = ""
        self._clip_norm = clip_norm
        self._inputs: dict[str, Tensor] = {}

    def add(self, result: StepResult, sizes: Sequence[int]) -> None:
        """Take what became of a window.

        Args:
            result: the window's.
            sizes: samples of its micro-batches.
        """
        for terms, size in zip(result.losses, sizes, strict=True):
            for name, value in terms.items():
                self.sums[name] = self.sums.get(name, 0.0) + value * size
                self.counts[name] = self.counts.get(name, 0) + size
        if result.taken:
            self.steps += 1
            self.norm += result.norm
            self.clips += result.norm > self._clip_norm

    def check_inputs(self, batch: Batch) -> None:
        """Look for NaN and infinity in a batch's columns, without waiting for the device."""
        for name, column in batch.items():
            if not inexact(column):
                continue
            # One pass without a mask: a sum in FP32 or wider is finite if and only if all of it is, or it is
            # so large that nothing could be learned from it.
            total = column.sum(dtype=torch.promote_types(column.dtype, torch.float32))
            bad = (~torch.isfinite(total)).long()
            self._inputs[name] = self._inputs[name] + bad if name in self._inputs else bad

    @property
    def samples(self) -> int:
        """Samples seen: every one has a loss."""
        return self.counts.get("loss", 0)

    @property
    def means(self) -> dict[str, float]:
        """Sample-weighted means of the loss and its terms, each over the batches that had it."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    @property
    def grad_norm(self) -> float:
        """Mean over the steps taken, NaN if there was none."""
        return self.norm / self.steps if self.steps else math.nan

    @property
    def clipped(self) -> float:
        """Share of the steps taken that were clipped, NaN if there was none."""
        return self.clips / self.steps if self.steps else math.nan

    @property
    def inputs(self) -> dict[str, int]:
        """Batches with NaN or infinity by column, of the columns that had any."""
        counts = {name: int(count.item()) for name, count in self._inputs.items()}
        return {name: counts[name] for name in sorted(counts) if counts[name]}

    def values(self) -> dict[str, Any]:
        """What is on the host, plain values; JSON has no NaN, and a float's text is exact."""
        sums = {name: repr(total) for name, total in self.sums.items()}
        return {**{name: getattr(self, name) for name in KEPT}, "sums": sums}

    def tensors(self) -> dict[str, Tensor]:
        """What is on the device."""
        tensors = {f"input/{name}": count for name, count in self._inputs.items()}
        if self.watch is not None:
            tensors |= {"watch_norms": self.watch.norms, "watch_touched": self.watch.touched}
        return tensors

    def load(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from `values` and `tensors`."""
        for name in KEPT:
            setattr(self, name, values[name])
        self.sums = {name: float(total) for name, total in values["sums"].items()}
        there = {name: tensor.to(device) for name, tensor in tensors.items()}
        if self.watch is not None:
            self.watch.norms, self.watch.touched = there["watch_norms"], there["watch_touched"]
        self._inputs = {k.removeprefix("input/"): v for k, v in there.items() if k.startswith("input/")}


def bad_columns(batches: Sequence[Batch]) -> str:
    """The columns of a window that hold NaN or infinity, and in how many samples; empty if none does."""
    found = []
    rows = sum(map(rows_of, batches))
    for name, column in batches[0].items():
        if inexact(column):
            flat = [torch.isfinite(batch[name]).reshape(len(batch[name]), -1) for batch in batches]
            bad = rows - int(sum(part.all(1).sum().item() for part in flat))
            if bad:
                found.append(f"column {name!r} holds NaN or infinity in {bad} of {rows} samples")
    return ", ".join(found)
