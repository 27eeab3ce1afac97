"""What another simulator meant by its labels: named candidates, and how its angles and ranges become ours.

Ours is the first of each list below (see `geometry`). A convention that differs is undone so:
conjugate steering by conjugating snapshots, channel, codes and covariance; another order of elements by
permuting them; another direction, origin or unit by computing the same point's azimuth, elevation and range.
A wavefront that is not spherical cannot be undone: no point has its phases.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.geometry import Geometry, angles, fresnel_difference, path_difference

DIRECTIONS: Mapping[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "u = sin az cos el, v = sin el": lambda az, el: (az.sin() * el.cos(), el.sin()),
    "u = sin az, v = sin el": lambda az, el: (az.sin(), el.sin()),
    "u = cos az cos el, v = sin el": lambda az, el: (az.cos() * el.cos(), el.sin()),
    "u = sin az, v = cos az sin el": lambda az, el: (az.sin(), az.cos() * el.sin()),
    "u = cos az sin el, v = sin az sin el": lambda az, el: (az.cos() * el.sin(), az.sin() * el.sin()),
    "u = sin az sin el, v = cos el": lambda az, el: (az.sin() * el.sin(), el.cos()),
    "u = cos az sin el, v = cos el": lambda az, el: (az.cos() * el.sin(), el.cos()),
}
MIRRORS = {"none": (1, 1), "u": (-1, 1), "v": (1, -1), "u and v": (-1, -1)}
WAVEFRONTS = ("spherical", "fresnel", "paraxial", "plane")
ORIGINS = ("centre", "first element")
UNITS = ("metre", "wavelength")
ORDERS = ("z slowest", "y slowest")
SIGNS = ("exp(-jk(r_n - r))", "exp(+jk(r_n - r))")
# Responses that correlate better than this are the same convention for these labels.
SAME = 1 - 1e-6


@dataclass(frozen=True)
class Convention:
    """How labels become the responses of the surface.

    Attributes:
        direction: of `DIRECTIONS`: the cosines along y and z.
        mirror: of `MIRRORS`: the axes that point the other way.
        wavefront: of `WAVEFRONTS`; with path r_n - r `fresnel` is -u.p + (|p|^2 - (u.p)^2) / (2 r),
            `paraxial` is -u.p + |p|^2 / (2 r), `plane` is -u.p.
        origin: of `ORIGINS`: where direction and range are measured from.
        unit: of `UNITS`: of the range.
        order: of `ORDERS`: of the elements; `z slowest` runs along y first.
        sign: of `SIGNS`.
    """

    direction: str
    mirror: str
    wavefront: str
    origin: str
    unit: str
    order: str
    sign: str

    @property
    def conjugate(self) -> bool:
        """Whether what depends on the phase is to be conjugated."""
        return self.sign != SIGNS[0]

    def permutation(self, geometry: Geometry) -> Tensor:
        """The stored place of each of our elements, [N], int64."""
        places = torch.arange(geometry.size)
        if self.order == ORDERS[0]:
            return places
        return places.reshape(geometry.columns, geometry.rows).T.reshape(-1)

    def points(self, azimuth: Tensor, elevation: Tensor, distance: Tensor, geometry: Geometry) -> Tensor:
        """(u, v, w) from the convention's own origin, [..., 3], float64; w = 0 where the range is 0."""
        u, v = DIRECTIONS[self.direction](azimuth.double(), elevation.double())
        along_u, along_v = MIRRORS[self.mirror]
        metres = distance.double() * (geometry.wavelength if self.unit == "wavelength" else 1.0)
        present = metres > 0
        inverse = torch.where(present, 1 / torch.where(present, metres, 1.0), 0.0)
        return torch.stack([along_u * u, along_v * v, inverse], dim=-1)

    def responses(self, azimuth: Tensor, elevation: Tensor, distance: Tensor, geometry: Geometry) -> Tensor:
        """Responses in our order and sign, [..., N], complex128, zero where the range is 0."""
        points = self.points(azimuth, elevation, distance, geometry)
        elements = geometry.elements().double()
        if self.origin == "first element":
            elements = elements - elements[0]
        if self.wavefront == "spherical":
            path, _ = path_difference(elements, points)
        else:
            along = points[..., :2] @ elements[:, 1:].T
            path = {
                "fresnel": fresnel_difference(elements, points),
                "paraxial": points[..., 2:] * elements.square().sum(-1) / 2 - along,
                "plane": -along,
            }[self.wavefront]
        phase = -2 * torch.pi / geometry.wavelength * path
        return torch.polar((distance > 0).double().unsqueeze(-1).expand_as(phase), phase)

    def labels(
        self, azimuth: Tensor, elevation: Tensor, distance: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same points in our convention: azimuth, elevation (radians), range (metres), float32.

        What is ours already is returned bit by bit; absent sources stay 0.

        Args:
            azimuth: as labelled, [B, K]; so are `elevation` and `distance`.
            elevation: [B, K].
            distance: [B, K], 0 where there is no source.
            geometry: the surface.

        Raises:
            InputError: if a direction lies outside of the half space in front of the surface.
        """
        same = (self.direction, self.mirror, self.origin, self.unit) == (
            next(iter(DIRECTIONS)),
            next(iter(MIRRORS)),
            ORIGINS[0],
            UNITS[0],
        )
        if same:
            return azimuth, elevation, distance
        present = distance > 0
        points = self.points(azimuth, elevation, distance, geometry)
        outside = present & (points[..., :2].square().sum(-1) > 1 + 1e-6)
        if outside.any():
            row, slot = outside.nonzero()[0].tolist()
            raise InputError(
                "ptr",
                [float(azimuth[row, slot]), float(elevation[row, slot])],
                f"azimuth and elevation must be a direction, but with {self.direction} it has u^2 + v^2 > 1",
                "leave such scenes out",
            )
        if self.origin == "first element":
            points = _moved(points, geometry.elements()[0].double())
        found = [torch.where(present, part, 0.0).float() for part in angles(points)]
        return found[0], found[1], found[2]

    def describe(self) -> dict[str, str]:
        """Plain values, for the manifest."""
        return asdict(self)

    def __str__(self) -> str:
        """All of its names in one line."""
        return "; ".join(
            [
                self.direction,
                f"mirrored: {self.mirror}",
                f"{self.wavefront} wavefront",
                f"from the {self.origin}",
                f"ranges in {self.unit}s",
                self.order,
                self.sign,
            ]
        )


def forms() -> Iterator[Convention]:
    """Every candidate in our order and with our sign, ours first."""
    for direction, mirror, wavefront, origin, unit in itertools.product(
        DIRECTIONS, MIRRORS, WAVEFRONTS, ORIGINS, UNITS
    ):
        # A plane wave is the same from wherever, and however far, it comes.
        if wavefront == "plane" and (origin, unit) != (ORIGINS[0], UNITS[0]):
            continue
        yield Convention(direction, mirror, wavefront, origin, unit, ORDERS[0], SIGNS[0])


def same_responses(first: Tensor, second: Tensor) -> bool:
    """Whether responses, [S, K, N], agree up to a phase a source, so that no covariance tells them apart."""
    size = first.abs().square().sum(-1)
    correlation = (first.conj() * second).sum(-1).abs()
    return bool((correlation >= SAME * size).all())


def _moved(points: Tensor, origin: Tensor) -> Tensor:
    """Points (u, v, w), [..., 3], seen from the centre; they were from `origin`, [3]. w = 0 stays."""
    u, v, w = points.unbind(-1)
    front = torch.stack([(1 - u.square() - v.square()).clamp(min=0).sqrt(), u, v], dim=-1)
    # In units of the range: q / r = direction + w * origin.
    place = front + w.unsqueeze(-1) * origin
    length = torch.linalg.vector_norm(place, dim=-1)
    return torch.stack([place[..., 1] / length, place[..., 2] / length, w / length], dim=-1)
