"""The learning rate, counted in optimizer steps that were taken."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ristune.training.config import OptimizerConfig

ONE_CYCLE_FIRST = 1 / 25


def warmup(step: int, rise: int) -> float:
    """Factor of a linear rise, 1 from step `rise - 1` on; steps are counted from 0."""
    return min(1.0, (step + 1) / rise)


def cosine(share: float, first: float, last: float) -> float:
    """Half a cosine from `first` at share 0 to `last` at share 1."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def warmup_cosine(step: int, total: int, rise: int, final: float) -> float:
    """A linear rise, then half a cosine (Loshchilov and Hutter, SGDR, 2017).

    Args:
        step: 0 for the first.
        total: steps of the whole training.
        rise: steps of the rise, at least 1.
        final: factor at the end.
    """
    return warmup(step, rise) if step < rise else cosine((step - rise) / max(1, total - rise), 1.0, final)


def one_cycle(step: int, total: int, rise: int, final: float) -> float:
    """Half a cosine up from 1/25, half a cosine down (Smith and Topin, Super-convergence, 2018).

    Args:
        step: 0 for the first.
        total: steps of the whole training.
        rise: steps of the rise, at least 1.
        final: factor at the end.
    """
    if step < rise:
        return cosine((step + 1) / rise, ONE_CYCLE_FIRST, 1.0)
    return cosine((step - rise) / max(1, total - rise), 1.0, final)


class Schedule:
    """Sets the learning rate of every group of an optimizer.

    Args:
        optimizer: whose groups' rates are multiplied by one factor.
        config: which schedule.
        total: optimizer steps of the whole training; what comes later has the last factor.
        held: from which step on the factor is held, and at what, as SWA does; None without.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        config: OptimizerConfig,
        total: int,
        held: tuple[int, float] | None = None,
    ) -> None:
        rise = max(1, round(config.warmup * total))
        end, final = held or (total, config.final_lr)
        # torch's rule for a plateau, on an optimizer whose learning rate is the factor. Any fall counts: its
        # own threshold, a share of the best, is wrong where that is negative.
        self._reduction = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        self._plateau = (
            ReduceLROnPlateau(
                self._reduction,
                factor=config.plateau_factor,
                patience=config.plateau_patience,
                threshold=0.0,
                min_lr=config.final_lr,
            )
            if config.schedule == "plateau"
            else None
        )
        curves: dict[str, Callable[[int], float]] = {
            "cosine": lambda step: warmup_cosine(step, end, rise, final),
            "one_cycle": lambda step: one_cycle(step, end, rise, final),
            "plateau": lambda step: warmup(step, rise) * self.reduction,
            "constant": lambda step: warmup(step, rise),
        }
        curve = curves[config.schedule]
        self._steps = LambdaLR(
            optimizer, lambda step: held[1] if held is not None and step >= held[0] else curve(step)
        )

    @property
    def reduction(self) -> float:
        """What plateaus have made of the learning rate."""
        return float(self._reduction.param_groups[0]["lr"])

    def step(self) -> None:
        """Go on by one optimizer step that was taken."""
        self._steps.step()

    def epoch(self, value: float) -> None:
        """Take the objective's value of an epoch; only a plateau listens."""
        if self._plateau is not None:
            self._plateau.step(value)

    def state(self) -> dict[str, Any]:
        """Plain values from which `load` goes on."""
        kept = ("best", "num_bad_epochs", "last_epoch", "cooldown_counter")
        seen = {k: v for k, v in self._plateau.state_dict().items() if k in kept} if self._plateau else {}
        # JSON has no infinity: a plateau that has seen no epoch has no best value.
        plateau = {k: None if v == math.inf else v for k, v in seen.items()}
        return {"steps": self._steps.last_epoch, "reduction": self.reduction, "plateau": plateau}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`; the rates themselves come back with the optimizer's groups."""
        self._steps.last_epoch = state["steps"]
        self._reduction.param_groups[0]["lr"] = state["reduction"]
        if self._plateau is not None:
            seen = {k: math.inf if v is None else v for k, v in state["plateau"].items()}
            self._plateau.load_state_dict(seen)
