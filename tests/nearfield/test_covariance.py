import math

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
    predicted_covariance,
    sample_covariance,
)
from ristune.nearfield.loss import moments_of
from tests.nearfield.conftest import GEOMETRY, VIEW, make_task


@pytest.fixture(scope="module")
def grid():
    return build_grid(GEOMETRY, (4, 7, 11), VIEW.limits())


OPTIONS = [
    {"debias": False, "loading": 0.0},
    {"debias": False, "loading": 0.3},
    {"debias": True, "loading": 0.0},
    {"debias": True, "loading": 0.3},
]


@pytest.fixture
def prepared(task, drawn):
    return task.prepare(drawn.batch)


def sample(prepared):
    scaled = prepared["snapshots"] * prepared["scale"].unsqueeze(1)
    return sample_covariance(scaled, prepared["diagonal"])


def random_prediction(count, grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, len(grid.points) + 1, generator=generator)
    # A floor as heavy as the map, so that their cross terms count.
    logits[:, -1] = torch.logsumexp(logits[:, :-1], dim=1)
    shares = torch.softmax(logits, dim=1)
    return Prediction(shares[:, :-1], shares[:, -1])


def squared(matrices):
    return matrices.abs().square().sum((1, 2))


@pytest.mark.parametrize("options", OPTIONS)
def test_sample_and_predicted_covariances_are_hermitian_with_trace_n(drawn, options):
    task = make_task(sample=options)
    task.attach(drawn)
    grid = task.grid
    matrices = [
        sample(task.prepare(drawn.batch)),
        predicted_covariance(random_prediction(64, grid), grid),
        predicted_covariance(identity(64, grid), grid),
    ]
    matrices.append(blend(matrices[1], matrices[0], 0.7))
    for matrix in matrices:
        trace = torch.diagonal(matrix, dim1=1, dim2=2).sum(1)
        assert torch.allclose(trace, torch.full_like(trace, 144), rtol=1e-4)
        assert torch.equal(matrix, matrix.mH)


def test_the_beamspace_map_is_the_quadratic_form_of_the_sample_covariance(prepared, task):
    a = task.grid.responses
    expected = torch.einsum("gn,bnm,gm->bg", a.conj(), sample(prepared), a).real
    assert torch.allclose(beamspace(prepared["snapshots"], task.grid), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.8, 1.0])
def test_the_error_without_matrices_equals_the_error_of_the_matrices(drawn, options, beta):
    """Training and validation use the left side, inference builds the matrices of the right side."""
    task = make_task(sample=options)
    task.attach(drawn)
    prepared = task.prepare(drawn.batch)
    prediction = random_prediction(64, task.grid)
    of = moments_of(prediction, task.grid, prepared)
    truth = prepared["factor"] @ prepared["factor"].mH
    effective = blend(predicted_covariance(prediction, task.grid), sample(prepared), beta)
    assert torch.allclose(nmse(of, beta), squared(effective - truth) / squared(truth), rtol=1e-3, atol=1e-4)


def test_predicting_the_identity_scores_its_known_error(prepared, task):
    of = moments_of(identity(64, task.grid), task.grid, prepared)
    truth = prepared["factor"] @ prepared["factor"].mH
    eye = torch.eye(144)
    assert torch.allclose(nmse(of, 1.0), squared(eye - truth) / squared(truth), rtol=1e-4)
    assert nmse(of, 1.0).mean() == pytest.approx(0.98, abs=0.01)


def test_a_source_on_the_grid_is_predicted_without_error(grid):
    gamma = torch.zeros(1, len(grid.points))
    gamma[0, [10, 200]] = torch.tensor([0.25, 0.75])
    factor = (grid.responses[[10, 200]] * torch.tensor([[0.5], [math.sqrt(0.75)]])).T.unsqueeze(0)
    snapshots = torch.zeros(1, 1, 144, dtype=torch.complex64)
    of = moments(
        Prediction(gamma, torch.zeros(1)),
        grid,
        factor,
        snapshots,
        torch.zeros(1, 144),
        torch.zeros_like(gamma),
    )
    assert nmse(of, 1.0).item() == pytest.approx(0, abs=1e-5)


def test_the_grid_covers_the_field_of_view_with_u_fastest(grid):
    assert grid.points.shape == (4 * 7 * 11, 3)
    low, high = grid.points.amin(0), grid.points.amax(0)
    edge = math.sin(math.pi / 3)
    assert low.tolist() == pytest.approx([-edge, -0.5, 0.1]) and high.tolist() == pytest.approx(
        [edge, 0.5, 0.5]
    )
    assert grid.points[1, 0] > grid.points[0, 0] and grid.points[1, 1] == grid.points[0, 1]
    assert torch.allclose(torch.diagonal(grid.gram), torch.full((308,), 144.0**2), rtol=1e-4)
