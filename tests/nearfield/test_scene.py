import numpy as np
import pytest
import torch

from ristune.errors import InputError
from ristune.nearfield.scene import covariance_factor, source_steering
from tests.nearfield.conftest import GEOMETRY, scene_sampler

RNG = np.random.default_rng


def tensors(scenes):
    return [torch.from_numpy(v) for v in (scenes.azimuth, scenes.elevation, scenes.range)]


def test_sources_lie_within_the_bounds_and_absent_ones_are_zero():
    scenes = scene_sampler().draw(500, GEOMETRY, RNG(0))
    present = np.arange(5) < scenes.num_sources[:, None]
    assert np.abs(np.rad2deg(scenes.azimuth)).max() <= 60
    assert np.abs(np.rad2deg(scenes.elevation)).max() <= 30
    assert scenes.range[present].min() >= 2 and scenes.range.max() <= 10
    for values in (scenes.azimuth, scenes.elevation, scenes.range, scenes.power):
        assert not values[~present].any()


def test_the_number_of_sources_is_uniform():
    counts = np.bincount(scene_sampler().draw(5000, GEOMETRY, RNG(0)).num_sources)
    assert counts[0] == 0 and len(counts) == 6
    # Five standard deviations of a share of one in five.
    assert np.abs(counts[1:] / 5000 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 5000)


def test_no_two_sources_of_a_scene_are_too_similar():
    scenes = scene_sampler().draw(300, GEOMETRY, RNG(0))
    responses = source_steering(*tensors(scenes), GEOMETRY)
    gram = (responses.mH @ responses).abs() / GEOMETRY.size
    assert (gram - torch.diag_embed(torch.diagonal(gram, dim1=1, dim2=2))).max() < 0.3


def test_powers_are_equal_by_default_and_spread_when_asked():
    equal = scene_sampler().draw(100, GEOMETRY, RNG(0))
    assert np.allclose(equal.power.max(1), 1 / equal.num_sources)
    spread = scene_sampler(power_spread_db=6.0, num_sources=[3, 3]).draw(1000, GEOMETRY, RNG(0))
    ratio = 10 * np.log10(spread.power.max(1) / spread.power.min(1))
    assert np.allclose(spread.power.sum(1), 1) and 5 < ratio.max() <= 6.001


@pytest.mark.parametrize("model", ["iid", "static"])
def test_labels_have_the_trace_and_the_rank_of_their_source_model(model):
    scenes = scene_sampler(source_model=model, num_sources=[3, 3]).draw(20, GEOMETRY, RNG(0))
    power, phase = torch.from_numpy(scenes.power), torch.from_numpy(scenes.phase)
    factor = covariance_factor(*tensors(scenes), power, phase, GEOMETRY, model)
    covariance = factor @ factor.mH
    trace = torch.diagonal(covariance, dim1=1, dim2=2).real.sum(1)
    assert torch.allclose(trace, torch.full_like(trace, 144.0), rtol=1e-4)
    ranks = torch.linalg.matrix_rank(covariance, rtol=1e-4)
    assert ranks.tolist() == [3 if model == "iid" else 1] * 20


def test_a_bound_that_cannot_be_met_is_refused():
    crowded = scene_sampler(num_sources=[5, 5], azimuth_deg=[0, 1], elevation_deg=[0, 1])
    with pytest.raises(InputError, match="max_correlation: got 0.3; it must be loose enough for 5 sources"):
        crowded.draw(10, GEOMETRY, RNG(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("azimuth_deg", [60, -60]),
        ("azimuth_deg", [-100, 0]),
        ("elevation_deg", [1]),
        ("range_m", [0, 10]),
        ("num_sources", [0, 3]),
        ("max_correlation", 0),
        ("power_spread_db", -1),
        ("source_model", "coherent?"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"simulator.scene.{name}: got "):
        scene_sampler(**{name: value})
