"""What an epoch did to the parameters, by group, and whether predictions differ between samples.

All is summed on the device; the host reads it at the end of the epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ristune.training.step import Attempt
from ristune.training.task import Output
from ristune.training.tensors import inexact, trainable


@dataclass(frozen=True)
class Diagnosis:
    """One epoch's diagnostics; by group of parameters unless said otherwise.

    Attributes:
        grad_norms: mean over the steps taken of the gradient's norm before clipping.
        coverage: share of parameters, by number of values, that had a gradient other than 0.
        update_ratio: norm of the epoch's last update over that of the weights; none if it was skipped.
        spread: by output, variance over the validation's samples as a share of the mean square, each taken
            over all of the output's values: 0 for a constant prediction.
        dead: names of parameters that had no gradient other than 0.
    """

    grad_norms: Mapping[str, float] = field(default_factory=dict)
    coverage: Mapping[str, float] = field(default_factory=dict)
    update_ratio: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    dead: Sequence[str] = ()


class Watch:
    """Follows the gradients of one epoch.

    Args:
        network: which is trained.
        groups: names of its trainable parameters by group.
        device: where they lie.
    """

    def __init__(self, network: nn.Module, groups: Mapping[str, Sequence[str]], device: torch.device) -> None:
        self._parameters = trainable(network)
        self._groups = groups
        order = {name: index for index, name in enumerate(self._parameters)}
        self._order = order
        # Which parameter belongs to which group, [groups, parameters].
        self._members = torch.zeros(len(groups), len(order), device=device)
        for row, names in enumerate(groups.values()):
            self._members[row, [order[name] for name in names]] = 1
        self.norms = torch.zeros(len(groups), device=device)
        self.touched = torch.zeros(len(order), device=device)
        self._before: dict[str, Tensor] = {}

    def add(self, attempt: Attempt) -> None:
        """Take a window's gradients; those of a skipped one do not count."""
        norms = torch.where(attempt.skipped.bool(), 0.0, attempt.norms)
        self.norms += (self._members @ norms.square()).sqrt()
        self.touched += norms > 0

    def keep_weights(self) -> None:
        """Keep the weights before the epoch's last update."""
        self._before = {name: p.detach().clone() for name, p in self._parameters.items()}

    def result(self, steps: int, spread: Mapping[str, float]) -> Diagnosis:
        """Read all of it on the host.

        Args:
            steps: how many were taken.
            spread: of the validation.
        """
        touched = dict(zip(self._order, (self.touched > 0).tolist(), strict=True))
        sizes = {name: p.numel() for name, p in self._parameters.items()}
        coverage = {
            group: sum(sizes[name] for name in names if touched[name]) / sum(sizes[name] for name in names)
            for group, names in self._groups.items()
            if steps
        }
        norms = (self.norms / steps).tolist() if steps else []
        return Diagnosis(
            grad_norms=dict(zip(self._groups, norms, strict=False)),
            coverage=coverage,
            update_ratio=self._update_ratio(),
            spread=spread,
            dead=tuple(name for name, seen in touched.items() if not seen) if steps else (),
        )

    def _update_ratio(self) -> dict[str, float]:
        ratios = {}
        for group, names in self._groups.items():
            if not self._before:
                break
            weights = [self._before[name] for name in names]
            changes = [self._parameters[name].detach() - self._before[name] for name in names]
            size, change = _norm(weights), _norm(changes)
            if change > 0:
                ratios[group] = change / size if size else float("inf")
        return ratios


class Spread:
    """Variance of a network's outputs over samples, summed in FP64."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        self._count = 0

    def add(self, output: Output, samples: int) -> None:
        """Take a batch of outputs; those that do not lead with the batch are left out."""
        outputs = output if isinstance(output, Mapping) else {"output": output}
        self._count += samples
        for name, value in outputs.items():
            if value.ndim == 0 or len(value) != samples or not inexact(value):
                continue
            real = torch.view_as_real(value) if value.is_complex() else value
            flat = real.detach().reshape(samples, -1).double()
            first, second = flat.sum(0), flat.square().sum()
            if name in self._sums:
                first, second = self._sums[name][0] + first, self._sums[name][1] + second
            self._sums[name] = first, second

    def result(self) -> dict[str, float]:
        """By output, the variance over samples as a share of the mean square."""
        shares = {}
        for name, (first, second) in self._sums.items():
            square = second.item()
            between = square - first.square().sum().item() / self._count
            shares[name] = max(0.0, between / square) if square else 0.0
        return shares


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([t.abs().double().square().sum() for t in tensors]).sum().sqrt())
