"""Sparse Bayesian learning on the grid as the base station sees it: powers of its points, most of them none.

Symbols are taken as Gaussian with power p_g at grid point g, so that y_l has the covariance
`R_l = sum_g p_g b_lg b_lg^H + sigma^2 I`, b_lg = Phi_l a_g. The likelihood of all snapshots is maximised over
the powers (M-SBL; Wipf and Rao, 2007) by majorisation and minimisation (Sun, Babu and Palomar, 2017), which
never raises `sum_l ln det R_l + y_l^H R_l^-1 y_l`.
"""

import torch
from torch import Tensor

from ristune.nearfield.covariance import Grid
from ristune.nearfield.likelihood import Observation
from ristune.nearfield.sensing import observe

ITERATIONS = 30


def grid_powers(data: Observation, grid: Grid, iterations: int = ITERATIONS) -> Tensor:
    """Powers over the grid, [B, G]; a map whose peaks are where sources are.

    `p_g <- p_g sqrt(sum_l |b_lg^H R_l^-1 y_l|^2 / sum_l b_lg^H R_l^-1 b_lg)`.

    Args:
        data: B scenes.
        grid: G points.
        iterations: how many.
    """
    views = observe(data.h, data.codes, grid.responses.T)
    energy = torch.view_as_real(views).square().sum(dim=(1, 2, 4))
    # To begin with, the received power comes from everywhere alike.
    received = torch.view_as_real(data.y).square().sum(dim=(1, 2, 3))
    power = (received.unsqueeze(1) / energy / energy.shape[1]).expand_as(energy)
    for _ in range(iterations):
        factor = torch.linalg.cholesky(covariances(views, power, data.noise_var))
        white = torch.linalg.solve_triangular(factor, views, upper=False)
        seen = torch.linalg.solve_triangular(factor, data.y.unsqueeze(-1), upper=False)
        matched = torch.view_as_real(white.mH @ seen).square().sum(dim=(1, 3, 4))
        expected = torch.view_as_real(white).square().sum(dim=(1, 2, 4))
        power = power * (matched / expected).sqrt()
    return power


def covariances(views: Tensor, power: Tensor, noise_var: Tensor) -> Tensor:
    """R_l of the model, [B, L, M, M].

    Args:
        views: b_lg, [B, L, M, G], complex64.
        power: p, [B, G].
        noise_var: sigma^2, [B].
    """
    eye = torch.eye(views.shape[2], dtype=views.dtype, device=views.device)
    return (views * power[:, None, None, :]) @ views.mH + noise_var[:, None, None, None] * eye
