"""What is left of the snapshots when predicted sources are suppressed, against matrices in FP64."""

from dataclasses import replace

import pytest
import torch

from ristune.nearfield.covariance import Prediction, identity, predicted_covariance
from ristune.nearfield.scene import true_points
from ristune.nearfield.suppression import suppressed
from tests.nearfield.conftest import CODES, Drawn, make_task, scene_sampler, simulator


def shares_of(predicted):
    return torch.cat([predicted.gamma, predicted.floor.unsqueeze(1)], dim=1)


def reference(prepared, covariance, grid):
    """The map and the energy with all matrices written out."""
    y, h = (torch.view_as_complex(prepared[name].double()) for name in ("y", "h"))
    codes, alpha = prepared["codes"].to(y.dtype), prepared["ridge"].double() * 144
    power = prepared["noise_var"].double() / alpha
    phi = h.unsqueeze(1) * codes.unsqueeze(2)
    eye = alpha[:, None, None, None] * torch.eye(16)
    white = torch.linalg.solve(phi @ covariance.to(y.dtype).unsqueeze(1) @ phi.mH + eye, y.unsqueeze(-1))
    field = (phi.mH @ white).squeeze(-1)
    a = grid.responses.to(y.dtype)
    left = torch.einsum("gn,bln->blg", a.conj(), field).abs().square().mean(1) / (144 * power[:, None])
    return left, (y.unsqueeze(-2).conj() @ white).real.flatten(1).mean(1) / 16 / power


@pytest.mark.parametrize("codes", [CODES, replace(CODES, amplitude_jitter=0.2, dropout=0.3)])
def test_it_is_that_of_the_matrices(codes):
    drawn, task = Drawn(simulator(codes=codes), rows=4), make_task()
    task.attach(drawn)
    prepared = task.prepare(drawn.batch)
    gamma = torch.zeros(4, len(task.grid.points))
    gamma[:, [3, 70, 71, 200]] = torch.tensor([0.4, 0.2, 0.1, 0.05])
    predicted = Prediction(gamma, torch.full((4,), 0.25))
    wanted, energy = reference(prepared, predicted_covariance(predicted, task.grid), task.grid)
    found, explained = suppressed(prepared, shares_of(predicted), task.grid)
    assert torch.allclose(found.double(), wanted, rtol=1e-3, atol=1e-6)
    assert torch.allclose(explained.double(), energy, rtol=1e-3)


def test_without_a_prediction_it_is_the_matched_filter(task, drawn):
    prepared = task.prepare(drawn.batch)
    found, _ = suppressed(prepared, shares_of(identity(64, task.grid)), task.grid)
    ratio = found / prepared["sample_map"]
    assert torch.allclose(ratio, ratio.mean(1, keepdim=True).expand_as(ratio), rtol=1e-3)


def test_weak_points_count_as_a_floor_and_half_precision_stays_out(task, drawn):
    prepared = task.prepare(drawn.batch)
    even = torch.full((64, len(task.grid.points) + 1), 1 / (len(task.grid.points) + 1))
    found, _ = suppressed(prepared, even, task.grid)
    none, _ = suppressed(prepared, shares_of(identity(64, task.grid)), task.grid)
    assert (found / none).log().abs().mean() < 0.2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, _ = suppressed(prepared, even, task.grid)
    assert torch.equal(half, found)


def test_a_source_that_is_known_is_gone_and_the_other_stays():
    drawn = Drawn(simulator(scene_sampler(num_sources=[2, 2]), snr_db=(20, 20)), rows=32)
    task = make_task(grid=[6, 26, 46])
    task.attach(drawn)
    prepared = task.prepare(drawn.batch)
    nearest = torch.cdist(true_points(prepared), task.grid.points).argmin(2)
    here = torch.arange(32)

    def ratio(known):
        gamma = torch.zeros(32, len(task.grid.points))
        gamma[here, nearest[:, 0]] = known
        shares = shares_of(Prediction(gamma, torch.full((32,), 1 - known)))
        left, _ = suppressed(prepared, shares, task.grid)
        return (left[here, nearest[:, 0]] / left[here, nearest[:, 1]]).median()

    assert ratio(0.5) < 0.2 * ratio(0.0)
