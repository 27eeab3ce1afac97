from dataclasses import replace

import numpy as np
import pytest
import torch

from ristune.errors import InputError
from ristune.nearfield.conventions import DIRECTIONS, ORDERS, SIGNS, Convention, same_responses
from ristune.nearfield.inferring import Labels, fit_covariance, from_covariances, from_snapshots, of_rank_one
from ristune.nearfield.scene import source_steering
from tests.nearfield.conftest import GEOMETRY, scene_sampler, simulator
from tests.nearfield.old_shards import OURS, old_shard

OLD = [replace(OURS, direction=direction) for direction in DIRECTIONS] + [
    replace(OURS, sign=SIGNS[1]),
    replace(OURS, order=ORDERS[1], mirror="v"),
    replace(OURS, mirror="u and v", unit="wavelength"),
    replace(OURS, origin="first element", sign=SIGNS[1], order=ORDERS[1]),
    replace(OURS, direction="u = sin az sin el, v = cos el", mirror="u", origin="first element"),
]


def of_shard(shard: dict[str, np.ndarray]) -> tuple[Labels, torch.Tensor]:
    slots = torch.from_numpy(shard["ptr"]).reshape(len(shard["y"]), 3, -1)
    covariance = torch.view_as_complex(torch.from_numpy(shard["R"]))
    return Labels(*slots.unbind(1)), covariance.to(torch.complex128)


@pytest.mark.parametrize("convention", OLD, ids=str)
def test_the_convention_is_told_and_the_labels_come_back(convention: Convention):
    ours, old = of_shard(old_shard(24, seed=3))[0], of_shard(old_shard(24, seed=3, convention=convention))
    found = from_covariances(old[0], old[1], False, GEOMETRY)
    assert found == convention
    labels = found.labels(old[0].azimuth, old[0].elevation, old[0].distance, GEOMETRY)
    for got, true in zip(labels, (ours.azimuth, ours.elevation, ours.distance), strict=True):
        # An arc sine or cosine of a float32 amplifies its rounding near the ends.
        assert torch.allclose(got, true, rtol=2e-6, atol=2e-6)
    again = source_steering(*labels, GEOMETRY).mT.to(torch.complex128)
    assert (
        again - old[0].responses(found, GEOMETRY) * _phase(again, old[0].responses(found, GEOMETRY))
    ).abs().max() < 1e-3


def _phase(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The phase a source that no covariance tells, [S, K, 1]."""
    inner = (second.conj() * first).sum(-1, keepdim=True)
    return torch.where(inner.abs() > 0, inner / inner.abs().clamp(min=1e-9), 1.0)


def test_labels_in_our_convention_are_kept_bit_by_bit():
    labels, _ = of_shard(old_shard(8))
    kept = OURS.labels(labels.azimuth, labels.elevation, labels.distance, GEOMETRY)
    assert all(a is b for a, b in zip(kept, (labels.azimuth, labels.elevation, labels.distance), strict=True))


def covariance_of(labels: Labels, responses: torch.Tensor) -> torch.Tensor:
    count = (labels.distance > 0).sum(1)
    return responses.mT @ responses.conj() / count[:, None, None]


@pytest.mark.parametrize("wavefront", ["fresnel", "paraxial", "plane"])
def test_waves_that_are_not_spherical_are_named_and_refused(wavefront):
    labels, _ = of_shard(old_shard(24))
    flat = labels.responses(replace(OURS, wavefront=wavefront), GEOMETRY)
    with pytest.raises(InputError, match=f"R: got '{wavefront} wavefront .*spherical.*residuals"):
        from_covariances(labels, covariance_of(labels, flat), False, GEOMETRY)


def test_steering_outside_of_the_candidates_is_refused_with_the_residuals():
    """Amplitudes that fall with the distance to each element are no candidate."""
    labels, _ = of_shard(old_shard(24))
    exact = labels.responses(OURS, GEOMETRY)
    taper = torch.linspace(0.7, 1.3, GEOMETRY.size, dtype=torch.float64)
    with pytest.raises(
        InputError, match=r"(?s)R: got 'residual .* at best'.*residual of at most 0.01.*0\.\d+  u = sin az"
    ):
        from_covariances(labels, covariance_of(labels, exact * taper), False, GEOMETRY)


def test_another_wavelength_is_refused():
    labels, covariance = of_shard(old_shard(24))
    with pytest.raises(InputError, match="check task.geometry"):
        from_covariances(labels, covariance, False, replace(GEOMETRY, wavelength=0.2))


def test_conventions_that_no_label_tells_apart_are_ours():
    """With every elevation 0, a mirrored v and several definitions are the same."""
    labels, _ = of_shard(old_shard(24))
    flat = Labels(labels.azimuth, torch.zeros_like(labels.elevation), labels.distance)
    covariance = covariance_of(flat, flat.responses(OURS, GEOMETRY))
    assert from_covariances(flat, covariance, False, GEOMETRY) == OURS


def test_candidates_that_are_nearly_as_good_are_refused():
    labels, covariance = of_shard(old_shard(24))
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.standard_normal(covariance.shape)) * 2e-3
    near = Labels(labels.azimuth * 1e-3, labels.elevation * 1e-3, labels.distance)
    straight = covariance_of(near, near.responses(OURS, GEOMETRY))
    with pytest.raises(InputError, match="one convention must be 10 times better than any other"):
        from_covariances(near, straight + noise, False, GEOMETRY)


@pytest.mark.parametrize("convention", [OURS, OLD[8], OLD[10]], ids=str)
def test_snapshots_tell_the_convention_where_there_is_no_covariance(convention):
    source = simulator(channel_dtype="f4")
    object.__setattr__(source.channel, "snr_db", [10, 20])
    shard = old_shard(24, convention=convention, source=source)
    labels, _ = of_shard(shard)
    y, h, codes = (torch.view_as_complex(torch.from_numpy(shard[name])) for name in ("y", "H_full", "codes"))
    assert from_snapshots(labels, y, h, codes, GEOMETRY) == convention
    with pytest.raises(InputError, match="y: got 'residual .* at best'"):
        from_snapshots(labels, y.roll(1, 0), h, codes, GEOMETRY)


def test_powers_come_back_from_covariances_and_a_floor_is_told_apart():
    source = simulator(scene_sampler(power_spread_db=6.0), channel_dtype="f4")
    shard = old_shard(16, source=source)
    labels, covariance = of_shard(shard)
    responses = labels.responses(OURS, GEOMETRY)
    power = torch.from_numpy(source.draw(16, np.random.default_rng(0))["power"]).double()
    loaded = 3 * covariance + 0.5 * torch.eye(GEOMETRY.size)
    fitted = fit_covariance(loaded, responses, coherent=False)
    assert torch.allclose(torch.from_numpy(fitted.power), 3 * power, atol=1e-5)
    assert np.allclose(fitted.floor, 0.5, atol=1e-5) and fitted.residual.max() < 1e-5


def test_coherent_covariances_are_of_rank_one_and_give_power_and_phase():
    source = simulator(scene_sampler(source_model="static", num_sources=[2, 5]), channel_dtype="f4")
    shard = old_shard(16, source=source)
    labels, covariance = of_shard(shard)
    assert of_rank_one(covariance).all()
    assert not of_rank_one(of_shard(old_shard(16, source=source, wrong_labels="iid"))[1]).any()
    fitted = fit_covariance(covariance, labels.responses(OURS, GEOMETRY), coherent=True)
    assert fitted.residual.max() < 1e-5
    drawn = source.draw(16, np.random.default_rng(0))
    assert np.allclose(fitted.power / fitted.power.sum(1, keepdims=True), drawn["power"], atol=1e-4)
    turn = np.exp(1j * (fitted.phase - drawn["phase"]))[:, :2]
    assert np.allclose(turn[:, 1] / turn[:, 0], 1, atol=1e-3)


def test_responses_are_the_same_up_to_a_phase_a_source():
    labels, _ = of_shard(old_shard(4))
    responses = labels.responses(OURS, GEOMETRY)
    assert same_responses(responses, responses * 1j)
    assert not same_responses(responses, labels.responses(replace(OURS, mirror="u"), GEOMETRY))
