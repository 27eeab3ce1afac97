"""When what of a sweep is killed: a plan that a seed decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TARGETS = ("driver", "worker", "raylet")
EARLY, ON_THE_WAY, LATE = "early", "on the way", "late"
MOMENTS = {EARLY: 0.2, ON_THE_WAY: 0.65, LATE: 0.15}
# Seconds, at most, between the moment of a kill and the kill itself: a start of Ray, a few epochs, its end.
DELAYS = {EARLY: 8.0, ON_THE_WAY: 0.5, LATE: 1.5}


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    Attributes:
        target: driver, worker or raylet.
        moment: early, on the way or late.
        share: of the trials that have been told, on the way.
        delay: seconds after the moment.
        which: which of several workers, in [0, 1).
    """

    target: str
    moment: str
    share: float
    delay: float
    which: float


def plan(
    counts: Sequence[int], each: int, seed: int, moments: Mapping[str, float] = MOMENTS
) -> list[list[Kill]]:
    """The kills of each sweep, in their order.

    Args:
        counts: of drivers, workers and raylets.
        each: kills a sweep.
        seed: of the plan.
        moments: how likely each is.
    """
    rng = np.random.default_rng(seed)
    targets = rng.permutation(
        [name for name, count in zip(TARGETS, counts, strict=True) for _ in range(count)]
    )
    kills = []
    for target in targets:
        moment = str(rng.choice(list(moments), p=list(moments.values())))
        share, delay, which = rng.random(3).tolist()
        kills.append(Kill(str(target), moment, share, delay * DELAYS[moment], which))
    return [sorted(kills[start : start + each], key=_place) for start in range(0, len(kills), each)]


def _place(kill: Kill) -> tuple[bool, float]:
    """Half of the early ones meet the first driver of a sweep, the others any; a late one meets the last."""
    first = kill.moment == EARLY and kill.share < 0.5
    return kill.moment == LATE, 0.0 if first else kill.share
