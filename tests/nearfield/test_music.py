import pytest
import torch

from ristune.nearfield.covariance import build_grid
from ristune.nearfield.geometry import cosines
from ristune.nearfield.measuring import Search
from ristune.nearfield.metrics import score
from ristune.nearfield.music import Estimates, null_spectrum, pick_peaks, refine, signal_subspace
from ristune.nearfield.scene import true_points
from tests.nearfield.conftest import GEOMETRY, VIEW, Drawn, make_task, scene_sampler, simulator

SEARCH = build_grid(GEOMETRY, (6, 26, 46), VIEW.limits())


def oracle(count, rows=40):
    drawn = Drawn(simulator(scene_sampler(num_sources=[count, count])), rows=rows)
    task = make_task(grid=[6, 13, 23])
    task.attach(drawn)
    prepared = task.prepare(drawn.batch)
    return task, prepared, prepared["factor"] @ prepared["factor"].mH


def independent_truth(prepared, count):
    """Sources between the numbers of FP32, and R_true from plain distances in double precision."""
    generator = torch.Generator().manual_seed(0)
    azimuth, elevation, distance = (
        prepared[name][:, :count].double() + 1e-4 * torch.rand(40, count, generator=generator).double()
        for name in ("azimuth", "elevation", "range")
    )
    across = torch.cos(elevation)
    towards = [torch.cos(azimuth) * across, torch.sin(azimuth) * across, torch.sin(elevation)]
    places = distance[..., None] * torch.stack(towards, dim=-1)
    paths = torch.linalg.vector_norm(places[:, :, None] - GEOMETRY.elements().double(), dim=-1)
    responses = torch.exp(-2j * torch.pi / GEOMETRY.wavelength * (paths - distance[..., None]))
    covariance = responses.mT @ responses.conj() / count
    return covariance.to(torch.complex64), cosines(azimuth, elevation, 1 / distance)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_estimates_do_not_share_their_rounding_with_the_truth(count):
    task, prepared, _ = oracle(count)
    covariance, points = independent_truth(prepared, count)
    result = score(Search(task).music(covariance, prepared["num_sources"]), points, prepared["num_sources"])
    assert result.recall > 0.98
    assert 0 < result.row()["~angle"] < 1e-4 and 0 < result.row()["~range"] < 1e-4


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_from_the_true_covariance_sources_off_the_grid_are_found(count):
    """An oracle: it is given R_true and K, and says what the estimator itself loses."""
    task, prepared, truth = oracle(count)
    found = Search(task).music(truth, prepared["num_sources"])
    result = score(found, true_points(prepared), prepared["num_sources"])
    row = result.row()
    assert row["recall"] > 0.98
    assert row["~angle"] < 0.02 and row["~range"] < 0.02


def test_the_grid_alone_is_far_from_that():
    """What is found is the refinement's doing: the test above can fail."""
    _, prepared, truth = oracle(2)
    subspace = signal_subspace(truth, prepared["num_sources"])
    peaks = pick_peaks(-null_spectrum(subspace, SEARCH), prepared["num_sources"], SEARCH)
    row = score(peaks, true_points(prepared), prepared["num_sources"]).row()
    assert row["~angle"] > 0.2


def test_the_refinement_never_leaves_the_field_of_view():
    _, prepared, truth = oracle(2)
    subspace = signal_subspace(truth, prepared["num_sources"])
    low, high = torch.tensor([-0.1, -0.1, 0.2]), torch.tensor([0.1, 0.1, 0.3])
    start = Estimates(torch.tensor([0.0, 0.0, 0.25]).expand(40, 2, 3), torch.ones(40, 2, dtype=torch.bool))
    refined = refine(start, subspace, GEOMETRY, low, high).points
    assert (refined >= low - 1e-6).all() and (refined <= high + 1e-6).all()


def test_the_signal_subspace_has_k_columns_a_scene():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 20, 20, generator=generator, dtype=torch.complex64)
    subspace = signal_subspace(x @ x.mH, torch.tensor([1, 3, 2]))
    assert subspace.shape == (3, 20, 3)
    assert torch.linalg.vector_norm(subspace, dim=1).round().tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]


def test_peaks_are_distinct_and_absent_ones_are_not_reported():
    null = torch.ones(1, len(SEARCH.points))
    null[0, 500] = 0.01
    null[0, 501] = 0.02  # next to the first: the same source
    null[0, 4000] = 0.05
    peaks = pick_peaks(-null, torch.tensor([2]), SEARCH)
    assert torch.equal(peaks.points[0], SEARCH.points[[500, 4000]])
    assert peaks.found.tolist() == [[True, True]]
    assert pick_peaks(-null, torch.tensor([1]), SEARCH).found.shape == (1, 1)
