"""Sparse Bayesian learning: its cost never rises, and its peaks are the sources."""

import pytest
import torch

from ristune.nearfield.covariance import build_grid
from ristune.nearfield.metrics import score
from ristune.nearfield.music import pick_peaks
from ristune.nearfield.sensing import observe
from ristune.nearfield.sparse import covariances, grid_powers
from tests.nearfield.cells import Cell
from tests.nearfield.conftest import GEOMETRY, VIEW

GRID = build_grid(GEOMETRY, (2, 13, 23), VIEW.limits())


def negative_likelihood(views, power, data):
    """sum_l ln det R_l + y_l^H R_l^-1 y_l, [B]."""
    factor = torch.linalg.cholesky(covariances(views, power, data.noise_var))
    white = torch.linalg.solve_triangular(factor, data.y.unsqueeze(-1), upper=False)
    volume = 2 * torch.diagonal(factor, dim1=-2, dim2=-1).real.log().sum(-1)
    return (volume + torch.view_as_real(white).square().sum(dim=(2, 3, 4))).sum(1)


def test_the_cost_never_rises():
    cell = Cell(3, 10.0, scenes=4)
    views = observe(cell.data.h, cell.data.codes, GRID.responses.T)
    costs = torch.stack(
        [
            negative_likelihood(views, grid_powers(cell.data, GRID, iterations), cell.data)
            for iterations in (0, 1, 2, 4, 8, 16)
        ]
    )
    assert (costs.diff(dim=0) < 0).all()


def test_the_cost_is_that_of_the_gaussian_model():
    cell = Cell(2, 10.0, scenes=2)
    views = observe(cell.data.h, cell.data.codes, GRID.responses.T)
    power = torch.rand(2, len(GRID.points), generator=torch.Generator().manual_seed(0)) / len(GRID.points)
    found = negative_likelihood(views, power, cell.data)
    matrices = covariances(views, power, cell.data.noise_var).to(torch.complex128)
    normal = [
        torch.linalg.slogdet(r).logabsdet + (y.conj() @ torch.linalg.solve(r, y)).real
        for r, y in zip(matrices[1], cell.data.y[1].to(torch.complex128), strict=True)
    ]
    assert found[1].item() == pytest.approx(sum(normal).item(), rel=1e-4)


def test_its_peaks_are_near_the_sources():
    cell = Cell(3, 20.0, scenes=12)
    peaks = pick_peaks(grid_powers(cell.data, GRID), cell.counts, GRID)
    assert score(peaks, cell.truth, cell.counts, gate_deg=4.0).recall > 0.9
    # Most of the grid has no power.
    power = grid_powers(cell.data, GRID)
    assert (power > 0.01 * power.amax(1, keepdim=True)).float().mean() < 0.2
