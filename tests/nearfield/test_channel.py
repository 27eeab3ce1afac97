import numpy as np
import pytest

from ristune.errors import InputError
from ristune.nearfield.channel import ChannelSampler, receive
from ristune.nearfield.codes import code_values
from tests.nearfield.conftest import CODES

RNG = np.random.default_rng


@pytest.mark.parametrize("kappa", [0.0, 1.0, 1e9])
def test_every_entry_has_unit_power_in_both_parts(kappa):
    sampler = ChannelSampler(16, [kappa, kappa], [0, 0], None)
    drawn_kappa, channel = sampler.draw(400, 12, 12, RNG(0))
    assert channel.shape == (400, 16, 144) and channel.dtype == np.complex64
    assert np.all(drawn_kappa == kappa)
    power = np.mean(np.abs(channel) ** 2, axis=0)
    assert np.abs(power - 1).max() < 6 / np.sqrt(400)
    assert np.mean(power) == pytest.approx(1, abs=0.01)


def test_a_channel_without_scattering_has_rank_one():
    _, channel = ChannelSampler(16, [1e12, 1e12], [0, 0], None).draw(3, 12, 12, RNG(0))
    values = np.linalg.svd(channel, compute_uv=False)
    assert np.all(values[:, 1] < 1e-3 * values[:, 0])


def test_the_line_of_sight_comes_from_directions_that_exist():
    _, channel = ChannelSampler(1, [1e12, 1e12], [0, 0], None).draw(500, 12, 12, RNG(0))
    surface = channel.reshape(500, 12, 12)
    u = np.angle(np.mean(surface[:, :, 1:] * surface[:, :, :-1].conj(), axis=(1, 2))) / np.pi
    v = np.angle(np.mean(surface[:, 1:] * surface[:, :-1].conj(), axis=(1, 2))) / np.pi
    assert np.max(u**2 + v**2) <= 1 + 1e-5
    # Uniform over the disk: a quarter lies within half the radius.
    assert np.mean(u**2 + v**2 < 0.25) == pytest.approx(0.25, abs=0.08)


def test_the_snr_of_a_scene_is_met_by_its_own_snapshots():
    rng = RNG(0)
    field = (rng.normal(size=(20, 16, 144)) + 1j * rng.normal(size=(20, 16, 144))).astype(np.complex64)
    _, channel = ChannelSampler(16, [0, 2], [0, 0], None).draw(20, 12, 12, rng)
    codes = code_values(CODES.draw(16, 12, 12, rng))
    snr_db = rng.uniform(-5, 20, 20)
    y, variance = receive(field, channel, codes, snr_db, rng)
    signal = np.einsum("bmn,ln,bln->blm", channel, codes, field)
    stated = 10 * np.log10(np.mean(np.abs(signal) ** 2, axis=(1, 2)) / variance)
    assert np.allclose(stated, snr_db, atol=1e-3)
    noise = np.mean(np.abs(y - signal) ** 2, axis=(1, 2))
    # 256 complex draws a scene: five standard deviations of their mean power.
    assert np.abs(noise / variance - 1).max() < 5 / 16


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((0, [0, 1], [0, 1], None), "antennas"),
        ((16, [-1, 1], [0, 1], None), "kappa"),
        ((16, [0, 1], [5, 0], None), "snr_db"),
        ((16, [0, 1], [0, 5], 30.0), "channel_error_db"),
    ],
)
def test_values_out_of_range_are_refused_by_name(values, name):
    with pytest.raises(InputError, match=f"simulator.channel.{name}: got "):
        ChannelSampler(*values)


@pytest.mark.parametrize("error_db", [-20.0, 0.0])
def test_the_known_channel_is_off_by_the_stated_power(error_db):
    sampler = ChannelSampler(16, [0, 2], [0, 0], error_db)
    _, channel = sampler.draw(100, 12, 12, RNG(0))
    error = np.mean(np.abs(sampler.known(channel, RNG(1)) - channel) ** 2) / np.mean(np.abs(channel) ** 2)
    assert 10 * np.log10(error) == pytest.approx(error_db, abs=0.1)


def test_a_channel_known_exactly_is_the_channel():
    sampler = ChannelSampler(16, [0, 2], [0, 0], None)
    _, channel = sampler.draw(2, 12, 12, RNG(0))
    assert sampler.known(channel, RNG(1)) is channel
