"""A space in which 17 % of the volume diverges, with its best point just outside.

Three values are searched: a rate (log-uniform over three decades, u in [0, 1]), a depth and a mix (uniform
in [0, 1]). What counts is the *effective rate* `e = u + 0.4 depth`: the error is lowest at a margin below a
limit, and above the limit a training diverges, the sooner the further above: half of the region in its
first epoch, the rest in epochs 2 to 6. Until then it looks as good as any, and better than most: the higher
the effective rate, the faster a training falls. Nothing here knows torch or Ray, so that any of them may
ask.
"""

import math
from collections.abc import Mapping

EPOCHS = 27
REGION = 0.17
# The highest effective rate is 1.4; this leaves a corner of REGION of the space above it.
LIMIT = 1.4 - math.sqrt(2 * 0.4 * REGION)
# The error at the best point, after a training without end.
BEST = 0.05


def effective(values: Mapping[str, float]) -> float:
    """The effective rate, in [0, 1.4].

    Args:
        values: `rate`, `depth` and `mix`.
    """
    return (math.log10(values["rate"]) + 4) / 3 + 0.4 * values["depth"]


def onset(values: Mapping[str, float]) -> int:
    """The epoch in which a training diverges; 0 if it does not."""
    above = (effective(values) - LIMIT) / (1.4 - LIMIT)
    if above <= 0:
        return 0
    return 1 if above >= 0.3 else 2 + math.floor((0.3 - above) / 0.3 * 5)


def error(values: Mapping[str, float], epoch: int, margin: float) -> float:
    """The validation error after an epoch: a fall towards that of the values; NaN from the onset on.

    Args:
        values: as of `effective`.
        epoch: from 1; 0 is before the first.
        margin: of the best effective rate below the limit.
    """
    if 0 < onset(values) <= epoch:
        return math.nan
    rate = effective(values)
    last = BEST + 2 * (rate - LIMIT + margin) ** 2
    last += 0.3 * (values["depth"] - 0.6) ** 2 + 0.3 * (values["mix"] - 0.3) ** 2
    return last + math.exp(-epoch * (0.08 + 0.3 * (rate / LIMIT) ** 2))
