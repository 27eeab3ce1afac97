import math

import pytest
import torch

from ristune.errors import InputError
from ristune.nearfield.geometry import (
    Geometry,
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


def test_steering_has_unit_modulus_and_zero_phase_at_the_origin():
    points = random_points(5)
    elements = torch.cat([GEOMETRY.elements().double(), torch.zeros(1, 3, dtype=torch.float64)])
    response = steering(elements, points, GEOMETRY.wavelength)
    assert torch.allclose(response.abs(), torch.ones_like(response.abs()))
    assert torch.allclose(response[:, -1], torch.ones(5, dtype=torch.complex128))


def test_phase_falls_with_distance():
    # A source towards +y is nearer to the elements at +y, whose phase is ahead.
    elements = torch.tensor([[0.0, 0.01, 0.0]], dtype=torch.float64)
    response = steering(elements, torch.tensor([[0.5, 0.0, 0.2]], dtype=torch.float64), 0.3)
    assert torch.angle(response).item() == pytest.approx(2 * math.pi / 0.3 * 0.5 * 0.01, rel=1e-2)


def test_far_away_the_wave_is_plane():
    elements = GEOMETRY.elements().double()
    near = torch.tensor([[0.3, -0.2, 0.0]], dtype=torch.float64)
    plane = torch.exp(2j * math.pi / 0.3 * (elements[:, 1] * 0.3 - elements[:, 2] * 0.2))
    assert torch.allclose(steering(elements, near, 0.3)[0], plane)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_derivatives_equal_finite_differences(axis):
    points = random_points(20)
    elements = GEOMETRY.elements().double()
    response, slope = steering_jacobian(elements, points, GEOMETRY.wavelength)
    assert torch.equal(response, steering(elements, points, GEOMETRY.wavelength))
    change = torch.zeros(3, dtype=torch.float64)
    change[axis] = 1e-6
    ahead, behind = (steering(elements, points + sign * change, GEOMETRY.wavelength) for sign in (1, -1))
    expected = (ahead - behind) / 2e-6
    assert (slope[..., axis] - expected).abs().max() < 1e-6 * expected.abs().max()


def test_angles_invert_cosines():
    points = random_points(50)
    azimuth, elevation, distance = angles(points)
    assert torch.allclose(cosines(azimuth, elevation, 1 / distance), points)


@pytest.mark.parametrize("name", ["rows", "columns", "spacing", "wavelength"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_surface_without_extent_is_refused(name, value):
    values = {"rows": 12, "columns": 12, "spacing": 0.5, "wavelength": 0.3, name: value}
    with pytest.raises(InputError, match=f"task.geometry.{name}: got {value}"):
        Geometry(**values)
