"""Scenes: where the sources are and how strong, drawn at random under a bound on their similarity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.geometry import Geometry, cosines, steering

SOURCE_MODELS = ("iid", "static")
ATTEMPTS = 200


@dataclass(frozen=True)
class Scenes:
    """Labels of B scenes, padded with zeros to K_max sources; float32.

    Attributes:
        num_sources: K, [B], int32.
        azimuth: [B, K_max], radians.
        elevation: [B, K_max], radians.
        range: [B, K_max], metres.
        power: [B, K_max]; the powers of a scene sum to 1.
        phase: [B, K_max], radians: of the constant symbols of `static` sources; zero for `iid`.
    """

    num_sources: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    range: np.ndarray
    power: np.ndarray
    phase: np.ndarray


@dataclass(frozen=True)
class SceneSampler:
    """The distribution of scenes.

    Args:
        azimuth_deg: lower and upper bound, degrees; uniform.
        elevation_deg: the same for elevation.
        range_m: the same for range, metres.
        num_sources: least and greatest K; uniform over the integers.
        max_correlation: bound on |a_i^H a_j| / N of two sources of a scene: nearer ones are not separable.
        power_spread_db: powers are drawn uniformly over this many dB; 0 is equal power.
        source_model: `iid` draws a new symbol a snapshot (incoherent sources, R = A diag(p) A^H);
            `static` keeps one symbol over all snapshots (coherent, R = (A s)(A s)^H of rank 1).
    """

    azimuth_deg: Sequence[float]
    elevation_deg: Sequence[float]
    range_m: Sequence[float]
    num_sources: Sequence[int]
    max_correlation: float
    power_spread_db: float
    source_model: str

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        bounds = {
            "azimuth_deg": (self.azimuth_deg, -90, 90),
            "elevation_deg": (self.elevation_deg, -90, 90),
            "range_m": (self.range_m, 1e-3, math.inf),
            "num_sources": (self.num_sources, 1, 64),
        }
        for name, (pair, low, high) in bounds.items():
            if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
                _refuse(name, pair, f"two numbers, the lower first, in [{low}, {high}]")
        if not 0 < self.max_correlation <= 1:
            _refuse("max_correlation", self.max_correlation, "in (0, 1]")
        if not self.power_spread_db >= 0:
            _refuse("power_spread_db", self.power_spread_db, "at least 0")
        if self.source_model not in SOURCE_MODELS:
            _refuse("source_model", self.source_model, f"one of {', '.join(SOURCE_MODELS)}")

    @property
    def max_sources(self) -> int:
        """K_max."""
        return int(self.num_sources[1])

    def draw(self, count: int, geometry: Geometry, rng: np.random.Generator) -> Scenes:
        """Draw scenes; one whose sources are too similar is drawn again, its K kept.

        Raises:
            InputError: if the bound on the correlation cannot be met for so many sources.
        """
        k_max = self.max_sources
        num_sources = rng.integers(self.num_sources[0], k_max, count, endpoint=True).astype(np.int32)
        present = np.arange(k_max) < num_sources[:, None]
        drawn = np.zeros((3, count, k_max))
        bounds = [np.deg2rad(self.azimuth_deg), np.deg2rad(self.elevation_deg), self.range_m]
        redraw = np.arange(count)
        for _ in range(ATTEMPTS):
            for axis, (low, high) in enumerate(bounds):
                drawn[axis, redraw] = rng.uniform(low, high, (len(redraw), k_max)) * present[redraw]
            similar = self._too_similar(drawn[:, redraw], present[redraw], geometry)
            redraw = redraw[similar]
            if not len(redraw):
                break
        else:
            _refuse(
                "max_correlation",
                self.max_correlation,
                f"loose enough for {k_max} sources: {ATTEMPTS} draws of a scene failed",
            )
        spread = 10 ** (rng.uniform(-self.power_spread_db / 2, self.power_spread_db / 2, present.shape) / 10)
        power = spread * present
        power /= power.sum(axis=1, keepdims=True)
        phase = rng.uniform(-np.pi, np.pi, present.shape) * present * (self.source_model == "static")
        azimuth, elevation, distance = drawn.astype(np.float32)
        return Scenes(
            num_sources, azimuth, elevation, distance, power.astype(np.float32), phase.astype(np.float32)
        )

    def _too_similar(self, drawn: np.ndarray, present: np.ndarray, geometry: Geometry) -> np.ndarray:
        azimuth, elevation, distance = (torch.from_numpy(part).float() for part in drawn)
        responses = source_steering(azimuth, elevation, distance, geometry)
        gram = (responses.mH @ responses).abs().numpy() / geometry.size
        pair = present[:, :, None] & present[:, None, :] & ~np.eye(present.shape[1], dtype=bool)
        return np.asarray((gram * pair).max(axis=(1, 2)) >= self.max_correlation)


def true_points(batch: Mapping[str, Tensor]) -> Tensor:
    """(u, v, w) of the true sources of a batch's labels, [B, K, 3]; absent ones have w = 0."""
    return source_points(batch["azimuth"], batch["elevation"], batch["range"])


def source_points(azimuth: Tensor, elevation: Tensor, distance: Tensor) -> Tensor:
    """(u, v, w) of sources, [..., 3], in radians and metres; absent ones have range 0 and get w = 0."""
    present = distance > 0
    inverse = torch.where(present, 1 / torch.where(present, distance, 1.0), 0.0)
    return cosines(azimuth, elevation, inverse)


def source_steering(
    azimuth: Tensor,
    elevation: Tensor,
    distance: Tensor,
    geometry: Geometry,
    elements: Tensor | None = None,
) -> Tensor:
    """Steering matrix A of each scene; the columns of absent sources (range 0) are zero.

    Args:
        azimuth: [B, K], radians.
        elevation: [B, K], radians.
        distance: ranges, [B, K], metres; 0 where there is no source.
        geometry: the surface.
        elements: see `steering`.

    Returns:
        [B, N, K], complex64.
    """
    responses = steering(geometry, source_points(azimuth, elevation, distance), elements)
    return (responses * (distance > 0).unsqueeze(-1)).transpose(1, 2)


def covariance_factor(
    azimuth: Tensor,
    elevation: Tensor,
    distance: Tensor,
    power: Tensor,
    phase: Tensor,
    geometry: Geometry,
    source_model: str,
) -> Tensor:
    """Factor F of the true covariance at the surface, R = F F^H, trace N.

    Args:
        azimuth: [B, K], radians; so are `elevation` and `phase`.
        elevation: [B, K].
        distance: ranges, [B, K], metres; 0 where there is no source.
        power: [B, K], summing to 1 over a scene.
        phase: [B, K].
        geometry: the surface.
        source_model: `iid` gives A diag(sqrt(p)), [B, N, K]; `static` gives A s scaled to trace N, [B, N, 1].
    """
    weighted = source_steering(azimuth, elevation, distance, geometry) * power.sqrt().unsqueeze(1)
    if source_model == "iid":
        return weighted
    field = (weighted * torch.polar(torch.ones_like(phase), phase).unsqueeze(1)).sum(-1, keepdim=True)
    # Coherent sources interfere: |A s|^2 is not N, and the labels' trace is.
    scale: Tensor = geometry.size**0.5 / torch.linalg.vector_norm(field, dim=1, keepdim=True)
    return field * scale


def _refuse(name: str, value: object, rule: str) -> None:
    raise InputError(f"simulator.scene.{name}", value, f"it must be {rule}", "correct the simulator's values")
