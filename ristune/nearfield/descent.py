"""Levenberg-Marquardt for many small problems at once, each within bounds (Marquardt, 1963)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Linearised:
    """A least-squares problem e(x) at some x, with its Jacobian J.

    Attributes:
        normal: Re(J^H J), [..., P, P].
        gradient: Re(J^H e), [..., P, 1].
        cost: |e|^2, [...].
    """

    normal: Tensor
    gradient: Tensor
    cost: Tensor


def descend(
    start: Tensor, linearise: Callable[[Tensor], Linearised], low: Tensor, high: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Lower the costs; a step that does not is not taken, and the next one is shorter.

    Args:
        start: x, [..., P]; each of the leading dimensions is a problem of its own.
        linearise: the problems at x, [..., P].
        low: lower bounds of x, [P].
        high: upper bounds of x, [P].
        iterations: how many.

    Returns:
        x, [..., P], and the costs there, [...]; never above those of the start.
    """
    x = start
    damping = torch.full(x.shape[:-1], 1e-3, device=x.device)
    now = linearise(x)
    for _ in range(iterations):
        diagonal = torch.diagonal(now.normal, dim1=-2, dim2=-1)
        # Curvature along range can vanish far away; the floor keeps the system solvable.
        damped = damping[..., None] * diagonal + 1e-6 * diagonal.amax(-1, keepdim=True)
        step = torch.linalg.solve(now.normal + torch.diag_embed(damped), now.gradient).squeeze(-1)
        trial = torch.minimum(torch.maximum(x - step, low), high)
        new = linearise(trial)
        better = new.cost < now.cost
        x = torch.where(better[..., None], trial, x)
        now = Linearised(
            torch.where(better[..., None, None], new.normal, now.normal),
            torch.where(better[..., None, None], new.gradient, now.gradient),
            torch.where(better, new.cost, now.cost),
        )
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-9, 1e6)
    return x, now.cost
