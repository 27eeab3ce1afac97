"""Scenes for which a prediction on the grid is exactly right, and R_samp as well."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ristune.nearfield.covariance import Grid, beamspace
from ristune.nearfield.geometry import angles

# Powers of the sources of each scene; not equal, lest their order went unnoticed.
SHARES = (0.6, 0.4)
# Logit of a grid point without a source: its share of the power is far below rounding.
NOTHING = -30.0


def scenes(
    batch: Mapping[str, Tensor], prepared: Mapping[str, Tensor], grid: Grid, max_sources: int, stages: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The right output, and what `prepare` would give for such scenes.

    Sources lie on two grid points, R = A diag(p) A^H. The snapshots are the columns of A diag(sqrt(L p)) and
    zeros, so that R_samp = R as well: R_pred and every blend of both are exact.

    Args:
        batch: columns, `y` [B, L, M, 2]; only its sizes count, and L must be at least 2.
        prepared: the same batch after `prepare`.
        grid: the task's.
        max_sources: the largest K that the network tells, at least 2.
        stages: maps of an output.

    Returns:
        The output, and the prepared batch with labels, snapshots and what comes of them in place of its own.
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
    sample_map = beamspace(snapshots, grid)
    azimuth, elevation, distance = angles(grid.points[chosen])
    power = shares.expand(count, -1)
    made_up = {
        "azimuth": azimuth,
        "elevation": elevation,
        "range": distance,
        "power": power,
        "snapshots": snapshots,
        "scale": torch.ones_like(prepared["scale"]),
        "diagonal": torch.zeros_like(prepared["diagonal"]),
        "scaled_map": sample_map,
        "sample_map": sample_map / factor.shape[1],
        "factor": factor,
        "num_sources": torch.full_like(prepared["num_sources"], len(SHARES)),
    }
    answers = torch.full((count, max_sources), NOTHING, device=chosen.device)
    answers[:, len(SHARES) - 1] = 0.0
    return {"map": logits.unsqueeze(1).expand(-1, stages, -1), "count": answers}, {**prepared, **made_up}
