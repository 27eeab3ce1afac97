"""Matched filtering of what predicted sources leave of the snapshots: the physics between two stages."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ristune.nearfield.covariance import Grid, beamspace
from ristune.nearfield.recovery import factorise
from ristune.nearfield.sensing import observe

# The largest shares of a map that are suppressed one by one; the others count as a floor.
STRONGEST = 24


def suppressed(batch: Mapping[str, Tensor], shares: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The beamspace map of the snapshots, whitened by the covariance that a prediction gives them.

    `R_l = Phi_l R_pred Phi_l^H + alpha I`, `z_l = Phi_l^H R_l^-1 y_l`, map `mean_l |a_g^H z_l|^2`: what the
    update of sparse Bayesian learning weighs a grid point by (Wipf and Rao, 2007). For R_pred = I, z_l is the
    ridge estimate. R_pred has its strongest grid points, and all the others as a floor: 16 x 24 products with
    a column each, not a dictionary. It has no gradient, and no
    half precision: autocast leaves complex products alone.

    Args:
        batch: prepared: `y`, `h`, `codes`, `noise_var` and `ridge`, divided by N.
        shares: (gamma, floor), [B, G + 1], summing to 1.
        grid: G points.

    Returns:
        The map divided by N p, p the power of an element, [B, G], and `mean_l y_l^H R_l^-1 y_l / (M p)`, [B],
        which is 1 if R_pred explains the snapshots.
    """
    y, h = torch.view_as_complex(batch["y"]), torch.view_as_complex(batch["h"].float())
    size = grid.responses.shape[1]
    alpha = batch["ridge"] * size
    power = batch["noise_var"] / alpha
    with torch.no_grad():
        weights, at = shares[:, :-1].float().topk(min(STRONGEST, shares.shape[1] - 1), dim=1)
        floor = 1 - weights.sum(1)
        views = observe(h, batch["codes"], grid.responses[at].mT)
        # A product a snapshot: codes need not be of unit modulus.
        coded = h.unsqueeze(1) * batch["codes"].unsqueeze(2)
        eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        around = floor[:, None, None, None] * (coded @ coded.mH) + alpha[:, None, None, None] * eye
        factor, _ = factorise((views * weights[:, None, None, :]) @ views.mH + around)
        white = torch.cholesky_solve(y.unsqueeze(-1), factor).squeeze(-1)
        field = batch["codes"].conj() * (white @ h.conj())
        energy = (y.conj() * white).real.sum(2).mean(1) / h.shape[1]
        return beamspace(field, grid) / (size * power[:, None]), energy / power
