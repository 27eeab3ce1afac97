"""The link from the surface to the base station: Rician channel, phase codes, coded snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import hadamard

from ristune.errors import InputError

PHASES = 256
CODE_FAMILIES = ("random", "dft2d", "hadamard")
# The family of datasets whose every sample has codes of its own, in a column `code`.
PER_SAMPLE = "per-sample"


@dataclass(frozen=True)
class ChannelSampler:
    """The distribution of channels and noise.

    Args:
        antennas: receive antennas M, a uniform linear array at half a wavelength.
        kappa: lower and upper bound of the Rician factor (linear power ratio of the line-of-sight part
            to the scattered part), uniform a scene.
        snr_db: lower and upper bound of the SNR, dB, uniform a scene.
    """

    antennas: int
    kappa: Sequence[float]
    snr_db: Sequence[float]

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


def complex_normal(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Circular complex normal numbers of unit power, complex64."""
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]


def draw_codes(
    family: str, bits: int, snapshots: int, rows: int, columns: int, rng: np.random.Generator
) -> np.ndarray:
    """Phase codes of the surface, one a snapshot, as indices of 2 pi / 256.

    Args:
        family: `random`: independent phases of `bits` bits; `dft2d`: distinct beams of the two-dimensional
            DFT, in random order; `hadamard`: distinct rows of +-1 of the next Sylvester matrix, cut to N.
        bits: resolution of `random`.
        snapshots: codes L.
        rows: rows of the surface.
        columns: columns of the surface.
        rng: source of randomness.

    Returns:
        Indices, [L, N], uint8.

    Raises:
        InputError: on an unknown family, or more snapshots than the family has codes.
    """
    size = rows * columns
    if family not in CODE_FAMILIES:
        _refuse("codes.family", family, f"one of {', '.join(CODE_FAMILIES)}")
    if not 1 <= bits <= 8:
        _refuse("codes.bits", bits, "in [1, 8]")
    if family == "random":
        levels = rng.integers(0, 2**bits, (snapshots, size))
        return np.asarray(levels * (PHASES // 2**bits), dtype=np.uint8)
    order = 1 << (size - 1).bit_length()
    # Beyond the largest power of two within N, rows cut to N repeat earlier ones nearly whole.
    available = size if family == "dft2d" else 1 << (size.bit_length() - 1)
    if snapshots > available:
        _refuse("snapshots", snapshots, f"at most {available} for the {family} codes")
    chosen = rng.permutation(available)[:snapshots]
    if family == "hadamard":
        return np.where(hadamard(order)[chosen, :size] > 0, 0, PHASES // 2).astype(np.uint8)
    beam_row, beam_column = np.divmod(chosen[:, None], columns)
    row, column = np.divmod(np.arange(size), columns)
    turns = beam_row * row / rows + beam_column * column / columns
    return np.rint(turns * PHASES).astype(np.int64).astype(np.uint8)


def code_values(indices: np.ndarray) -> np.ndarray:
    """Unit-modulus codes, complex64, of phases in units of 2 pi / 256."""
    return np.asarray(np.exp(2j * np.pi / PHASES * indices), dtype=np.complex64)


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
