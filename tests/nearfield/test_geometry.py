import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ristune.errors import InputError
from ristune.nearfield.geometry import (
    AMPLITUDES,
    WAVEFRONTS,
    angles,
    cosines,
    path_difference,
    positions,
    steering,
    steering_jacobian,
)
from tests.nearfield.conftest import GEOMETRY


def random_points(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    azimuth, elevation, inverse = torch.rand(3, count, generator=generator, dtype=torch.float64)
    return cosines((azimuth * 2 - 1) * 1.0, (elevation * 2 - 1) * 0.5, 0.1 + 0.4 * inverse)


def test_the_surface_is_centred_and_as_large_as_stated():
    elements = GEOMETRY.elements()
    assert elements.shape == (144, 3)
    assert elements.mean(0).abs().max() < 1e-6
    assert GEOMETRY.aperture / GEOMETRY.wavelength == pytest.approx(7.78, abs=0.01)
    assert GEOMETRY.fraunhofer / GEOMETRY.wavelength == pytest.approx(121)
    assert (elements[1] - elements[0]).tolist() == pytest.approx([0, 0.15, 0])


def test_path_differences_are_distances_to_the_elements_minus_the_range():
    points = random_points(50)
    elements = GEOMETRY.elements().double()
    expected = torch.cdist(positions(points), elements) - (1 / points[:, 2:])
    assert torch.allclose(path_difference(elements, points)[0], expected, atol=1e-12)


def test_path_differences_do_not_cancel_in_single_precision():
    points = random_points(50)
    points[:, 2] = 1e-4
    elements = GEOMETRY.elements()
    single = path_difference(elements, points.float())[0].double()
    double = path_difference(elements.double(), points)[0]
    # 10 km away; the difference of two distances in FP32 would be off by 1e-3 m.
    assert (single - double).abs().max() < 1e-6


WAVES = pytest.mark.parametrize(
    ("wavefront", "amplitude"), list(itertools.product(WAVEFRONTS, AMPLITUDES)), ids=str
)


@WAVES
def test_the_phase_is_zero_at_the_origin_and_the_energy_that_of_unit_modulus(wavefront, amplitude):
    geometry = replace(GEOMETRY, rows=11, columns=11, wavefront=wavefront, amplitude=amplitude)
    response = steering(geometry, random_points(5))
    assert torch.allclose(response[:, 60].imag, torch.zeros(5).double())
    assert torch.allclose(response.abs().square().sum(1), torch.full((5,), 121.0).double())
    assert ((response.abs() - 1).abs().max() > 1e-3) == (amplitude == "spherical")


def test_a_spherical_amplitude_falls_with_the_distance_to_each_element():
    geometry = replace(GEOMETRY, amplitude="spherical")
    points = random_points(5)
    distances = torch.cdist(positions(points), geometry.elements().double())
    products = steering(geometry, points).abs() * distances
    assert torch.allclose(products, products[:, :1].expand(-1, 144))


@pytest.mark.parametrize("wavefront", WAVEFRONTS)
def test_phase_falls_with_distance(wavefront):
    # A source towards +y is nearer to the elements at +y, whose phase is ahead.
    two = replace(GEOMETRY, rows=1, columns=2, spacing=0.1, wavefront=wavefront)
    response = steering(two, torch.tensor([[0.5, 0.0, 0.2]], dtype=torch.float64))[0]
    expected = 2 * math.pi * 0.5 * 0.1
    assert torch.angle(response[1] / response[0]).item() == pytest.approx(expected, rel=1e-2)


@WAVES
def test_far_away_the_wave_is_plane_and_the_error_falls_with_distance(wavefront, amplitude):
    geometry = replace(GEOMETRY, wavefront=wavefront, amplitude=amplitude)
    elements = geometry.elements().double()
    at = torch.tensor([0.3, -0.2, 0.0], dtype=torch.float64)
    plane = torch.exp(2j * math.pi / 0.3 * (elements[:, 1] * 0.3 - elements[:, 2] * 0.2))
    assert torch.allclose(steering(geometry, at), plane)
    errors = [
        (steering(geometry, at + torch.tensor([0, 0, 1 / r]).double()) - plane).abs().max().item()
        for r in (1e3, 1e4, 1e5)
    ]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.01)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.01)


def test_the_second_order_is_near_the_exact_wave_far_away_and_not_close_by():
    fresnel = replace(GEOMETRY, wavefront="fresnel")
    points = random_points(2000)
    alike = {}
    for distance in (0.5, 1.0, 2.0, 20.0):
        points[:, 2] = 1 / distance
        overlap = (steering(GEOMETRY, points).conj() * steering(fresnel, points)).sum(1).abs() / 144
        alike[distance] = overlap.square().median().item()
    assert alike[0.5] < 0.1 < alike[1.0] < 0.5 < alike[2.0] < 0.9 and alike[20.0] > 0.999, alike


@WAVES
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_derivatives_equal_finite_differences(axis, wavefront, amplitude):
    geometry = replace(GEOMETRY, wavefront=wavefront, amplitude=amplitude)
    points = random_points(20)
    response, slope = steering_jacobian(geometry, points)
    assert torch.equal(response, steering(geometry, points))
    change = torch.zeros(3, dtype=torch.float64)
    change[axis] = 1e-6
    ahead, behind = (steering(geometry, points + sign * change) for sign in (1, -1))
    expected = (ahead - behind) / 2e-6
    assert (slope[..., axis] - expected).abs().max() < 1e-6 * expected.abs().max()


def test_angles_invert_cosines():
    points = random_points(50)
    azimuth, elevation, distance = angles(points)
    assert torch.allclose(cosines(azimuth, elevation, 1 / distance), points)


@pytest.mark.parametrize("name", ["rows", "columns", "spacing", "wavelength"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_surface_without_extent_is_refused(name, value):
    with pytest.raises(InputError, match=f"task.geometry.{name}: got {value}"):
        replace(GEOMETRY, **{name: value})


@pytest.mark.parametrize("name", ["wavefront", "amplitude"])
def test_an_unknown_wave_is_refused(name):
    with pytest.raises(InputError, match=f"task.geometry.{name}: got 'flat'; it must be one of"):
        replace(GEOMETRY, **{name: "flat"})


class Copies(TorchDispatchMode):
    """Notes the tensors that are copied to another device, for which a host waits."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if str(func).startswith("aten._to_copy") and result.device != args[0].device:
            self.found.append(result.shape)
        return result


@pytest.mark.parametrize("response", [steering, steering_jacobian])
def test_the_surface_is_made_where_the_points_are(response):
    points = torch.zeros(5, 3, device="meta")
    with Copies() as seen:
        response(GEOMETRY, points)
    assert seen.found == []
    with Copies() as seen:
        GEOMETRY.elements().to(points)
    assert seen.found == [(GEOMETRY.rows * GEOMETRY.columns, 3)]
