"""Scenes for which a prediction on the grid is exactly right, and R_samp as well."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ristune.nearfield.covariance import Grid, beamspace

# Powers of the sources of each scene; not equal, lest their order went unnoticed.
SHARES = (0.6, 0.4)
# Logit of a grid point without a source: its share of the power is far below rounding.
NOTHING = -30.0


def scenes(
    batch: Mapping[str, Tensor], prepared: Mapping[str, Tensor], grid: Grid
) -> tuple[Tensor, dict[str, Tensor]]:
    """The right logits, and what `prepare` would give for such scenes.

    Sources lie on two grid points, R = A diag(p) A^H. The snapshots are the columns of A diag(sqrt(L p)) and
    zeros, so that R_samp = R as well: R_pred and every blend of both are exact.

    Args:
        batch: columns, `y` [B, L, M, 2]; only its sizes count, and L must be at least 2.
        prepared: the same batch after `prepare`.
        grid: the task's.

    Returns:
        Logits, [B, G + 1], and the prepared batch with other `snapshots`, `diagonal`, `sample_map` and
        `factor`.
    """
    count, length = batch["y"].shape[:2]
    points = len(grid.points)
    # Apart from each other, other ones in each scene.
    first = torch.arange(count, device=grid.points.device) * 7 % points
    chosen = torch.stack([first, (first + points // 2) % points], dim=1)
    shares = torch.tensor(SHARES, device=chosen.device)
    factor = (grid.responses[chosen] * shares.sqrt()[:, None]).mT
    snapshots = factor.new_zeros(count, length, factor.shape[1])
    snapshots[:, : len(SHARES)] = factor.mT * length**0.5
    logits = torch.full((count, points + 1), NOTHING, device=chosen.device)
    logits.scatter_(1, chosen, shares.log().expand(count, -1))
    made_up = {
        "snapshots": snapshots,
        "diagonal": prepared["diagonal"].new_zeros(count, factor.shape[1]),
        "sample_map": beamspace(snapshots, grid) / factor.shape[1],
        "factor": factor,
    }
    return logits, {**prepared, **made_up}
