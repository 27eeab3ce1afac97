import math
from dataclasses import replace

import pytest
import torch

from ristune.nearfield.covariance import (
    Prediction,
    beamspace,
    blend,
    build_grid,
    identity,
    moments,
    nmse,
    normalise,
    predicted_covariance,
    ridge_parameter,
    ridge_snapshots,
    sample_covariance,
)
from tests.nearfield.conftest import CODES, GEOMETRY, VIEW, Drawn, make_task, simulator


@pytest.fixture(scope="module")
def grid():
    return build_grid(GEOMETRY, (4, 7, 11), VIEW.limits())


@pytest.fixture
def prepared(task, drawn):
    return task.prepare(drawn.batch)


def random_prediction(count, grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, len(grid.points) + 1, generator=generator)
    # A floor as heavy as the map, so that their cross terms count.
    logits[:, -1] = torch.logsumexp(logits[:, :-1], dim=1)
    shares = torch.softmax(logits, dim=1)
    return Prediction(shares[:, :-1], shares[:, -1])


def squared(matrices):
    return matrices.abs().square().sum((1, 2))


def lstsq_snapshots(y, h, codes, alpha):
    """The augmented least-squares problem, in double precision: the reference."""
    phi = h.unsqueeze(1).to(torch.complex128) * codes.unsqueeze(1)
    batch, count, antennas, size = phi.shape
    eye = torch.eye(size, dtype=torch.complex128).expand(batch, count, size, size)
    stacked = torch.cat([phi, alpha.double().sqrt()[:, None, None, None] * eye], dim=2)
    target = torch.cat([y, torch.zeros(batch, count, size)], dim=2).to(torch.complex128)
    return torch.linalg.lstsq(stacked, target.unsqueeze(-1)).solution.squeeze(-1)


def normal_equations(y, h, codes, alpha):
    """(Phi^H Phi + alpha I)^-1 Phi^H y in double precision: in complex64 it is wrong."""
    phi = h.unsqueeze(1).to(torch.complex128) * codes.unsqueeze(1)
    matrix = phi.mH @ phi + alpha.double()[:, None, None, None] * torch.eye(phi.shape[-1])
    return torch.linalg.solve(matrix, phi.mH @ y.to(torch.complex128).unsqueeze(-1)).squeeze(-1)


def test_four_ways_of_computing_the_ridge_agree(task, drawn):
    batch = {k: v[:3] for k, v in drawn.batch.items()}
    y, h = torch.view_as_complex(batch["y"]), torch.view_as_complex(batch["h"].float())
    codes = task.codes(batch)
    alpha = ridge_parameter(y, h, codes, batch["noise_var"])
    expected = lstsq_snapshots(y, h, task._codes[0], alpha)
    assert torch.allclose(normal_equations(y, h, task._codes[0], alpha), expected)
    for unit_modulus in (True, False):
        found = ridge_snapshots(y, h, codes, alpha, unit_modulus)
        error = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
        assert error < 1e-5


def test_codes_of_other_amplitudes_have_a_factor_each():
    jittered = replace(CODES, amplitude_jitter=0.2, dropout=0.2)
    drawn = Drawn(simulator(codes=jittered), rows=3)
    task = make_task()
    task.attach(drawn)
    y, h = torch.view_as_complex(drawn.batch["y"]), torch.view_as_complex(drawn.batch["h"].float())
    codes = task.codes(drawn.batch)
    alpha = ridge_parameter(y, h, codes, drawn.batch["noise_var"])
    expected = lstsq_snapshots(y, h, codes[0], alpha)
    found = ridge_snapshots(y, h, codes, alpha, unit_modulus=False)
    assert torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected) < 1e-5
    assert torch.allclose(task.prepare(drawn.batch)["snapshots"], normalise(found))
    # The shared factor would be wrong for them.
    shared = ridge_snapshots(y, h, codes, alpha, unit_modulus=True)
    assert torch.linalg.vector_norm(shared - expected) / torch.linalg.vector_norm(expected) > 0.05


def test_the_ridge_is_the_noise_over_the_power_of_an_element(drawn):
    y = torch.view_as_complex(drawn.batch["y"])
    h = torch.view_as_complex(drawn.batch["h"].float())
    codes = torch.ones(64, 16, 144, dtype=torch.complex64)
    alpha = ridge_parameter(y, h, codes, drawn.batch["noise_var"])
    # The powers of a scene sum to 1, so an element's field has unit power on average.
    ratio = (alpha / drawn.batch["noise_var"])[drawn.batch["snr_db"] > 5]
    assert ratio.log().mean().exp() == pytest.approx(1, abs=0.15)


def test_sample_and_predicted_covariances_are_hermitian_with_trace_n(prepared, task):
    grid = task.grid
    matrices = [
        sample_covariance(prepared["snapshots"]),
        predicted_covariance(random_prediction(64, grid), grid),
        predicted_covariance(identity(64, grid), grid),
    ]
    matrices.append(blend(matrices[1], matrices[0], 0.7))
    for matrix in matrices:
        trace = torch.diagonal(matrix, dim1=1, dim2=2).sum(1)
        assert torch.allclose(trace, torch.full_like(trace, 144), rtol=1e-4)
        assert torch.allclose(matrix, matrix.mH, atol=1e-4)


def test_the_beamspace_map_is_the_quadratic_form_of_the_sample_covariance(prepared, task):
    a = task.grid.responses
    expected = torch.einsum("gn,bnm,gm->bg", a.conj(), sample_covariance(prepared["snapshots"]), a).real
    assert torch.allclose(beamspace(prepared["snapshots"], task.grid), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.8, 1.0])
def test_the_error_without_matrices_equals_the_error_of_the_matrices(prepared, task, beta):
    """Training and validation use the left side, inference builds the matrices of the right side."""
    prediction = random_prediction(64, task.grid)
    sample_map = prepared["sample_map"] * 144
    of = moments(prediction, task.grid, prepared["factor"], prepared["snapshots"], sample_map)
    truth = prepared["factor"] @ prepared["factor"].mH
    effective = blend(
        predicted_covariance(prediction, task.grid), sample_covariance(prepared["snapshots"]), beta
    )
    assert torch.allclose(nmse(of, beta), squared(effective - truth) / squared(truth), rtol=1e-3, atol=1e-4)


def test_predicting_the_identity_scores_its_known_error(prepared, task):
    of = moments(
        identity(64, task.grid), task.grid, prepared["factor"], prepared["snapshots"], prepared["sample_map"]
    )
    truth = prepared["factor"] @ prepared["factor"].mH
    eye = torch.eye(144)
    assert torch.allclose(nmse(of, 1.0), squared(eye - truth) / squared(truth), rtol=1e-4)
    assert nmse(of, 1.0).mean() == pytest.approx(0.98, abs=0.01)


def test_a_source_on_the_grid_is_predicted_without_error(grid):
    gamma = torch.zeros(1, len(grid.points))
    gamma[0, [10, 200]] = torch.tensor([0.25, 0.75])
    factor = (grid.responses[[10, 200]] * torch.tensor([[0.5], [math.sqrt(0.75)]])).T.unsqueeze(0)
    snapshots = torch.zeros(1, 1, 144, dtype=torch.complex64)
    of = moments(Prediction(gamma, torch.zeros(1)), grid, factor, snapshots, torch.zeros_like(gamma))
    assert nmse(of, 1.0).item() == pytest.approx(0, abs=1e-5)


def test_silence_stays_finite():
    assert torch.isfinite(normalise(torch.zeros(2, 3, 4, dtype=torch.complex64)).abs()).all()


def test_the_grid_covers_the_field_of_view_with_u_fastest(grid):
    assert grid.points.shape == (4 * 7 * 11, 3)
    low, high = grid.points.amin(0), grid.points.amax(0)
    edge = math.sin(math.pi / 3)
    assert low.tolist() == pytest.approx([-edge, -0.5, 0.1]) and high.tolist() == pytest.approx(
        [edge, 0.5, 0.5]
    )
    assert grid.points[1, 0] > grid.points[0, 0] and grid.points[1, 1] == grid.points[0, 1]
    assert torch.allclose(torch.diagonal(grid.gram), torch.full((308,), 144.0**2), rtol=1e-4)
