"""The surface and the one steering function: exact spherical waves, for data, labels, losses and estimators.

Frame: the surface lies in the y-z plane, centred at the origin, its boresight along +x. A direction has
azimuth `az` from +x towards +y and elevation `el` from the x-y plane towards +z, so that the direction
cosines along the surface are u = sin(az) cos(el) and v = sin(el). With w = 1 / range, a point is (u, v, w).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ristune.errors import InputError


@dataclass(frozen=True)
class Geometry:
    """A rectangular surface and its carrier.

    Args:
        rows: elements along z.
        columns: elements along y.
        spacing: distance of neighbours, in wavelengths.
        wavelength: metres.
    """

    rows: int
    columns: int
    spacing: float
    wavelength: float

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        values = {"rows": self.rows, "columns": self.columns, "spacing": self.spacing}
        for name, value in {**values, "wavelength": self.wavelength}.items():
            if not 0 < value < math.inf:
                raise InputError(
                    f"task.geometry.{name}",
                    value,
                    "it must be finite and above 0",
                    "correct the task's geometry",
                )

    @property
    def size(self) -> int:
        """Number of elements N."""
        return self.rows * self.columns

    @property
    def aperture(self) -> float:
        """Largest distance D of two elements, metres."""
        return self.spacing * self.wavelength * math.hypot(self.rows - 1, self.columns - 1)

    @property
    def fraunhofer(self) -> float:
        """Fraunhofer distance 2 D^2 / wavelength, metres; range is identifiable inside about half of it."""
        return 2 * self.aperture**2 / self.wavelength

    def elements(self) -> Tensor:
        """Element positions, [N, 3], metres, FP32, centred at the origin, z varying slowest."""
        step = self.spacing * self.wavelength
        y = (torch.arange(self.columns) - (self.columns - 1) / 2) * step
        z = (torch.arange(self.rows) - (self.rows - 1) / 2) * step
        zz, yy = torch.meshgrid(z, y, indexing="ij")
        return torch.stack([torch.zeros_like(yy), yy, zz], dim=-1).reshape(-1, 3)


def cosines(azimuth: Tensor, elevation: Tensor, inverse_range: Tensor) -> Tensor:
    """Points (u, v, w), [..., 3], of azimuth and elevation in radians and 1 / range in 1 / metre, [...]."""
    u = torch.sin(azimuth) * torch.cos(elevation)
    return torch.stack([u, torch.sin(elevation), inverse_range], dim=-1)


def angles(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Azimuth, elevation (radians) and range (metres), [...] each, of points (u, v, w), [..., 3].

    Cosines outside the unit disk are drawn back to its edge; 1 / range is kept above 1e-6 per metre.
    """
    u, v, w = points.unbind(-1)
    v = v.clamp(-1 + 1e-6, 1 - 1e-6)
    elevation = torch.asin(v)
    azimuth = torch.asin((u / torch.cos(elevation)).clamp(-1, 1))
    return azimuth, elevation, 1 / w.clamp(min=1e-6)


def positions(points: Tensor) -> Tensor:
    """Cartesian positions, [..., 3], metres, of points (u, v, w), [..., 3]."""
    azimuth, elevation, distance = angles(points)
    x = torch.cos(azimuth) * torch.cos(elevation)
    y = torch.sin(azimuth) * torch.cos(elevation)
    return distance.unsqueeze(-1) * torch.stack([x, y, torch.sin(elevation)], dim=-1)


def path_difference(elements: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to each element minus distance to the origin, without cancellation.

    With s = sqrt(1 - 2 w (u.p) + w^2 |p|^2), the distance to p relative to the range,
    `r_n - r = (w |p|^2 - 2 u.p) / (1 + s)`; w = 0 is the plane wave.

    Args:
        elements: positions p in the surface's plane, [N, 3], metres.
        points: (u, v, w), [..., 3].

    Returns:
        The differences, [..., N], metres, and s, [..., N].
    """
    projection = points[..., :2] @ elements[:, 1:].T
    square = elements.square().sum(-1)
    w = points[..., 2:]
    s = torch.sqrt(1 - 2 * w * projection + w.square() * square)
    return (w * square - 2 * projection) / (1 + s), s


def steering(elements: Tensor, points: Tensor, wavelength: float) -> Tensor:
    """Near-field array response under the exact spherical-wave model.

    Args:
        elements: element positions, [N, 3], metres, origin at the array's centre.
        points: sources as (u, v, w = 1 / range), [..., 3], w in 1 / metre.
        wavelength: carrier wavelength, metres.

    Returns:
        `exp(-j k (r_n - r))`: unit-modulus responses, [..., N], complex, phase zero at the origin.
    """
    difference, _ = path_difference(elements, points)
    phase = -2 * math.pi / wavelength * difference
    return torch.polar(torch.ones_like(phase), phase)


def steering_jacobian(elements: Tensor, points: Tensor, wavelength: float) -> tuple[Tensor, Tensor]:
    """The array response and its derivatives by u, v and w.

    From `r_n - r = (s - 1) / w`: d/du = -p_y / s, d/dv = -p_z / s, and
    d/dw = (|p|^2 - (r_n - r)^2) / (2 s), which is regular at w = 0.

    Args:
        elements: element positions, [N, 3], metres.
        points: sources as (u, v, w), [..., 3].
        wavelength: carrier wavelength, metres.

    Returns:
        Responses, [..., N], and derivatives, [..., N, 3], complex.
    """
    difference, s = path_difference(elements, points)
    k = 2 * math.pi / wavelength
    response = torch.polar(torch.ones_like(difference), -k * difference)
    by_u = -elements[:, 1] / s
    by_v = -elements[:, 2] / s
    by_w = (elements.square().sum(-1) - difference.square()) / (2 * s)
    slope = torch.stack([by_u, by_v, by_w], dim=-1)
    return response, -1j * k * response.unsqueeze(-1) * slope
