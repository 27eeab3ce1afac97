"""The surface and the one steering function, for data, labels, losses and estimators.

Frame: the surface lies in the y-z plane, centred at the origin, its boresight along +x. A direction has
azimuth `az` from +x towards +y and elevation `el` from the x-y plane towards +z, so that the direction
cosines along the surface are u = sin(az) cos(el) and v = sin(el). With w = 1 / range, a point is (u, v, w).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ristune.errors import InputError

WAVEFRONTS = ("exact", "fresnel")
AMPLITUDES = ("unit", "spherical")


@dataclass(frozen=True)
class Geometry:
    """A rectangular surface, its carrier, and how waves reach it.

    Args:
        rows: elements along z.
        columns: elements along y.
        spacing: distance of neighbours, in wavelengths.
        wavelength: metres.
        wavefront: `exact`: spherical waves; `fresnel`: their expansion to the second order in the aperture,
            of which little is left at less than a few apertures.
        amplitude: `unit`: the same at every element; `spherical`: falling with the distance to each.
    """

    rows: int
    columns: int
    spacing: float
    wavelength: float
    wavefront: str
    amplitude: str

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
        for name, known in (("wavefront", WAVEFRONTS), ("amplitude", AMPLITUDES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"task.geometry.{name}",
                    getattr(self, name),
                    f"it must be one of {', '.join(known)}",
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

    def elements(self, device: torch.device | None = None) -> Tensor:
        """Element positions, [N, 3], metres, FP32, centred at the origin, z varying slowest.

        Args:
            device: where they are made, so that none has to be waited for; the CPU unless it is given.
        """
        step = self.spacing * self.wavelength
        y = (torch.arange(self.columns, device=device) - (self.columns - 1) / 2) * step
        z = (torch.arange(self.rows, device=device) - (self.rows - 1) / 2) * step
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


def fresnel_difference(elements: Tensor, points: Tensor) -> Tensor:
    """`path_difference` to the second order in p, `-u.p + w (|p|^2 - (u.p)^2) / 2`, [..., N], metres."""
    projection = points[..., :2] @ elements[:, 1:].T
    return points[..., 2:] * (elements.square().sum(-1) - projection.square()) / 2 - projection


def steering(geometry: Geometry, points: Tensor, elements: Tensor | None = None) -> Tensor:
    """Near-field response of the surface, `g_n exp(-j k (r_n - r))`, phase zero at the origin.

    The gains g_n are 1, or for the spherical amplitude in proportion to r / r_n; their energy is N.

    Args:
        geometry: the surface, N elements.
        points: sources as (u, v, w = 1 / range), [..., 3], w in 1 / metre; their precision is the result's.
        elements: where the elements really are, [N, 3], metres; None: where they should be.

    Returns:
        [..., N], complex.
    """
    elements = (geometry.elements(points.device) if elements is None else elements).to(points)
    difference, s = path_difference(elements, points)
    if geometry.wavefront == "fresnel":
        difference = fresnel_difference(elements, points)
    return torch.polar(_gains(geometry, s), -2 * math.pi / geometry.wavelength * difference)


def steering_jacobian(geometry: Geometry, points: Tensor) -> tuple[Tensor, Tensor]:
    """The response and its derivatives by u, v and w.

    Of the exact path, from `r_n - r = (s - 1) / w`: d/du = -p_y / s, d/dv = -p_z / s, and
    d/dw = (|p|^2 - (r_n - r)^2) / (2 s), which is regular at w = 0. Of the logarithm of s:
    -w p_y / s^2, -w p_z / s^2 and (w |p|^2 - u.p) / s^2.

    Args:
        geometry: the surface, N elements.
        points: sources as (u, v, w), [..., 3].

    Returns:
        Responses, [..., N], and derivatives, [..., N, 3], complex.
    """
    elements = geometry.elements(points.device).to(points)
    _, y, z = elements.unbind(-1)
    square, projection = elements.square().sum(-1), points[..., :2] @ elements[:, 1:].T
    w = points[..., 2:]
    difference, s = path_difference(elements, points)
    if geometry.wavefront == "fresnel":
        difference = fresnel_difference(elements, points)
        bend = 1 + w * projection
        slope = torch.stack([-y * bend, -z * bend, (square - projection.square()) / 2], dim=-1)
    else:
        slope = torch.stack([-y / s, -z / s, (square - difference.square()) / (2 * s)], dim=-1)
    k = 2 * math.pi / geometry.wavelength
    gains = _gains(geometry, s)
    response = torch.polar(gains, -k * difference)
    relative = -1j * k * slope
    if geometry.amplitude == "spherical":
        fall = -torch.stack([-w * y, -w * z, w * square - projection], dim=-1) / s.square().unsqueeze(-1)
        mean = (gains.square().unsqueeze(-1) * fall).sum(-2, keepdim=True) / geometry.size
        relative = relative + (fall - mean)
    return response, response.unsqueeze(-1) * relative


def _gains(geometry: Geometry, s: Tensor) -> Tensor:
    """Gains g of the elements, [..., N], whose distances relative to the range are s; |g|^2 = N."""
    if geometry.amplitude == "unit":
        return torch.ones_like(s)
    fall = 1 / s
    norm: Tensor = torch.linalg.vector_norm(fall, dim=-1, keepdim=True)
    return fall / norm * math.sqrt(geometry.size)
