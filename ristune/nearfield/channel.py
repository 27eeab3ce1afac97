"""The link from the surface to the base station: Rician channel and coded snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ristune.errors import InputError


@dataclass(frozen=True)
class ChannelSampler:
    """The distribution of channels and noise.

    Args:
        antennas: receive antennas M, a uniform linear array at half a wavelength.
        kappa: lower and upper bound of the Rician factor (linear power ratio of the line-of-sight part
            to the scattered part), uniform a scene.
        snr_db: lower and upper bound of the SNR, dB, uniform a scene.
        channel_error_db: power of what the known channel differs by from the true one, relative to it; None
            if it is known exactly.
    """

    antennas: int
    kappa: Sequence[float]
    snr_db: Sequence[float]
    channel_error_db: float | None

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        if self.antennas < 1:
            _refuse("channel.antennas", self.antennas, "at least 1")
        if len(self.kappa) != 2 or not 0 <= self.kappa[0] <= self.kappa[1] < np.inf:
            _refuse("channel.kappa", self.kappa, "two numbers from 0, the lower first")
        if len(self.snr_db) != 2 or not -100 <= self.snr_db[0] <= self.snr_db[1] <= 100:
            _refuse("channel.snr_db", self.snr_db, "two numbers in [-100, 100], the lower first")
        if self.channel_error_db is not None and not -100 <= self.channel_error_db <= 20:
            _refuse("channel.channel_error_db", self.channel_error_db, "in [-100, 20], or null")

    def draw(
        self, count: int, rows: int, columns: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw Rician channels; both parts have unit power an entry.

        The line-of-sight part is the outer product of two plane-wave responses: at the surface from a
        direction in front of it whose cosines are uniform over the unit disk, at the array from one whose
        cosine is uniform.

        Args:
            count: scenes B.
            rows: rows of the surface.
            columns: columns of the surface, half a wavelength apart.
            rng: source of randomness.

        Returns:
            The Rician factor, [B], and H, [B, M, N], complex64.
        """
        kappa = rng.uniform(self.kappa[0], self.kappa[1], (count, 1, 1))
        radius, turn = np.sqrt(rng.uniform(size=(count, 1))), rng.uniform(0, 2 * np.pi, (count, 1))
        u, v, s = radius * np.cos(turn), radius * np.sin(turn), rng.uniform(-1, 1, (count, 1))
        at_surface = _plane(v, rows)[:, :, None] * _plane(u, columns)[:, None, :]
        line = _plane(s, self.antennas)[:, :, None] * at_surface.reshape(count, 1, rows * columns)
        line = line * np.exp(2j * np.pi * rng.uniform(size=(count, 1, 1)))
        scattered = complex_normal(line.shape, rng)
        channel = np.sqrt(kappa / (1 + kappa)) * line + np.sqrt(1 / (1 + kappa)) * scattered
        return kappa[:, 0, 0], channel.astype(np.complex64)

    def known(self, channel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the base station takes for the channel, with an error of its own, [B, M, N]."""
        if self.channel_error_db is None:
            return channel
        error = complex_normal(channel.shape, rng) * np.float32(10 ** (self.channel_error_db / 20))
        # An entry has unit power.
        return channel + error


def complex_normal(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Circular complex normal numbers of unit power, complex64."""
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]


def receive(
    field: np.ndarray, channel: np.ndarray, codes: np.ndarray, snr_db: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Coded snapshots at the base station, y_l = H D(c_l) x_l + n_l.

    The SNR of a scene is `10 log10(mean |H D_l x_l|^2 / sigma^2)`, the mean over the scene's own snapshots
    and antennas: it is met exactly, scene by scene.

    Args:
        field: x at the surface, [B, L, N], complex64.
        channel: H, [B, M, N], complex64.
        codes: c, [L, N], complex64, unit modulus.
        snr_db: [B], dB.
        rng: source of randomness.

    Returns:
        y, [B, L, M], complex64, and sigma^2, [B], float32.
    """
    clean = (field * codes) @ channel.transpose(0, 2, 1)
    signal = np.mean(np.abs(clean) ** 2, axis=(1, 2))
    variance = signal / 10 ** (snr_db / 10)
    noise = complex_normal(clean.shape, rng) * np.sqrt(variance)[:, None, None]
    return (clean + noise).astype(np.complex64), variance.astype(np.float32)


def _plane(cosine: np.ndarray, count: int) -> np.ndarray:
    """Plane-wave responses of a line of `count` elements at half a wavelength, [B, count]."""
    return np.exp(1j * np.pi * cosine * np.arange(count))


def _refuse(name: str, value: object, rule: str) -> None:
    raise InputError(f"simulator.{name}", value, f"it must be {rule}", "correct the simulator's values")
