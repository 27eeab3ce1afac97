"""The bounds against finite differences of the model itself, and against the far field's own formulas."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ristune.nearfield.bound import (
    Sources,
    bounds,
    conditional_bound,
    conditional_information,
    unconditional_bound,
    unconditional_information,
)
from ristune.nearfield.sensing import observe_sources
from tests.nearfield.conftest import GEOMETRY

L, M, N = 6, 8, GEOMETRY.size
NOISE = 0.3
AZIMUTH, ELEVATION, RANGE = [0.3, -0.4, 0.1], [0.2, -0.1, 0.3], [2.5, 4.0, 3.0]


def scene(sources=3):
    rng = np.random.default_rng(3)
    h = complex_normal(rng, (1, M, N))
    codes = torch.exp(2j * torch.pi * torch.from_numpy(rng.random((1, L, N))))
    symbols = complex_normal(rng, (1, L, sources))
    at = Sources(*(torch.tensor([values[:sources]]).double() for values in (AZIMUTH, ELEVATION, RANGE)))
    return h, codes, at, symbols


def complex_normal(rng, shape):
    return torch.from_numpy((rng.normal(size=shape) + 1j * rng.normal(size=shape)) / math.sqrt(2))


def responses(parameters):
    """A of (azimuth, elevation, range) of each source, by distances alone, in double precision."""
    azimuth, elevation, distance = parameters.reshape(-1, 3).T
    towards = [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    places = distance[:, None] * np.stack(towards, axis=-1)
    elements = GEOMETRY.elements().double().numpy()
    paths = np.linalg.norm(places[:, None] - elements, axis=-1)
    return np.exp(-2j * np.pi / GEOMETRY.wavelength * (paths - distance[:, None])).T


def seen(h, codes, parameters):
    """B_l, [L, M, K]."""
    h, codes = h[0].numpy(), codes[0].numpy()
    return np.stack([h @ (code[:, None] * responses(parameters)) for code in codes])


def parameters_of(at):
    return torch.stack([at.azimuth[0], at.elevation[0], at.range[0]], dim=-1).flatten().numpy()


def central_differences(function, at):
    step = 1e-5
    columns = [(function(at + step * e) - function(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return np.stack(columns)


def eliminated(information, wanted):
    return np.linalg.inv(np.linalg.inv(information)[:wanted, :wanted])


def assert_close(found, wanted):
    """Equal bounds, each entry in units of the parameters' own deviations."""
    covariance, expected = np.linalg.inv(found), np.linalg.inv(wanted)
    unit = np.sqrt(np.diag(expected))
    assert np.abs((covariance - expected) / np.outer(unit, unit)).max() < 1e-6


def information(h, codes, at, of, *rest):
    views, slopes = observe_sources(h, codes, at.points(), GEOMETRY)
    slopes = torch.einsum("blmkq,bkqp->blmkp", slopes, at.slopes().to(slopes.dtype))
    return of(views, slopes, *rest)[0].numpy()


def test_the_conditional_information_is_that_of_finite_differences():
    h, codes, at, symbols = scene()
    wanted = 3 * symbols.shape[2]

    def mean(values):
        s = (values[wanted:].reshape(2, L, -1) * np.array([1, 1j])[:, None, None]).sum(0)
        return np.einsum("lmk,lk->lm", seen(h, codes, values[:wanted]), s).ravel()

    s = symbols[0].numpy()
    start = np.concatenate([parameters_of(at), s.real.ravel(), s.imag.ravel()])
    slopes = central_differences(mean, start)
    whole = 2 / NOISE * (slopes.conj() @ slopes.T).real
    found = information(h, codes, at, conditional_information, symbols, torch.tensor([NOISE]).double())
    assert_close(found, eliminated(whole, wanted))


def test_the_static_information_has_one_symbol_a_source():
    h, codes, at, symbols = scene()
    wanted, constant = 3 * symbols.shape[2], symbols[:, :1]

    def mean(values):
        s = values[wanted:].reshape(2, -1).T @ np.array([1, 1j])
        return (seen(h, codes, values[:wanted]) @ s).ravel()

    s = constant[0, 0].numpy()
    start = np.concatenate([parameters_of(at), s.real, s.imag])
    slopes = central_differences(mean, start)
    whole = 2 / NOISE * (slopes.conj() @ slopes.T).real
    noise = torch.tensor([NOISE]).double()
    found = conditional_bound(h, codes, at, constant, noise, GEOMETRY)
    wanted_bound = np.sqrt(np.diag(np.linalg.inv(whole))[:wanted]).reshape(-1, 3).T
    for name, values in zip(("azimuth", "elevation", "range"), wanted_bound, strict=True):
        assert getattr(found, name)[0].numpy() == pytest.approx(values, rel=1e-6)
    # More is known than when every snapshot has a symbol of its own.
    assert (
        found.range < conditional_bound(h, codes, at, constant.expand(-1, L, -1), noise, GEOMETRY).range
    ).all()


def test_the_unconditional_information_is_that_of_finite_differences():
    h, codes, at, _ = scene(2)
    # Strong noise: in weak noise it hardly matters whether its power is known.
    power, noise, wanted = np.array([0.7, 0.4]), 1000.0, 6

    def covariance(values):
        b = seen(h, codes, values[:wanted])
        return (b * values[wanted:-1]) @ b.conj().transpose(0, 2, 1) + values[-1] * np.eye(M)

    start = np.concatenate([parameters_of(at), power, [noise]])
    slopes = central_differences(covariance, start)
    inverse = np.linalg.inv(covariance(start))
    whole = np.einsum("lab,ilbc,lcd,jlda->ij", inverse, slopes, inverse, slopes, optimize=True).real
    found = information(
        h, codes, at, unconditional_information, torch.from_numpy(power)[None], torch.tensor([noise]).double()
    )
    assert_close(found, eliminated(whole, wanted))


def test_in_the_far_field_without_codes_it_is_the_bound_of_a_plain_array():
    """Stoica and Nehorai's closed form for two plane waves on a line of sensors, Phi_l = I."""
    line = replace(GEOMETRY, rows=1)
    eye, ones = torch.eye(12).to(torch.complex128)[None], torch.ones(1, 40, 12, dtype=torch.complex128)
    azimuth = np.array([0.3, -0.2])
    at = Sources(
        torch.from_numpy(azimuth)[None], torch.zeros(1, 2).double(), torch.full((1, 2), 1e9).double()
    )
    symbols = complex_normal(np.random.default_rng(0), (1, 40, 2))
    views, slopes = observe_sources(eye, ones, at.points(), line)
    slopes = torch.einsum("blmkq,bkqp->blmkp", slopes, at.slopes().to(slopes.dtype))[..., :1]
    found = conditional_information(views, slopes, symbols, torch.tensor([NOISE]).double())[0].numpy()
    n = np.arange(12)[:, None] - 5.5
    a = np.exp(1j * np.pi * np.sin(azimuth) * n)
    d = 1j * np.pi * np.cos(azimuth) * n * a
    outside = np.eye(12) - a @ np.linalg.pinv(a)
    s = symbols[0].numpy()
    source_covariance = s.T @ s.conj() / 40
    plain = NOISE / 2 / 40 * np.linalg.inv((d.conj().T @ outside @ d * source_covariance.T).real)
    assert np.linalg.inv(found) == pytest.approx(plain, rel=1e-6)


def test_the_bound_of_a_position_is_that_of_its_parts():
    """One source ahead: azimuth moves it along y, elevation along z, range along x."""
    at = Sources(torch.zeros(1, 1).double(), torch.zeros(1, 1).double(), torch.full((1, 1), 4.0).double())
    found = bounds(torch.diag(torch.tensor([100.0, 400.0, 25.0])).double()[None], at)
    assert (found.azimuth.item(), found.elevation.item(), found.range.item()) == pytest.approx(
        (0.1, 0.05, 0.2)
    )
    assert found.position.item() == pytest.approx(math.sqrt((4 * 0.1) ** 2 + (4 * 0.05) ** 2 + 0.2**2))


def test_to_know_that_symbols_are_gaussian_helps_little_and_never_harms():
    h, codes, at, _ = scene(2)
    noise, power = torch.tensor([0.01]).double(), torch.ones(1, 2).double()
    rng = np.random.default_rng(1)
    many = codes.repeat(1, 300, 1)
    conditional = conditional_bound(h, many, at, complex_normal(rng, (1, 300 * L, 2)), noise, GEOMETRY)
    unconditional = unconditional_bound(h, many, at, power, noise, GEOMETRY)
    ratio = (unconditional.azimuth / conditional.azimuth)[0]
    assert ((ratio > 0.8) & (ratio < 1.1)).all()
