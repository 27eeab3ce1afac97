"""Codes of the surface: phases by family, amplitudes that should be 1."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import hadamard

from ristune.errors import require

PHASES = 256
CODE_FAMILIES = ("random", "dft2d", "hadamard")
# The family of datasets whose every sample has codes of its own, in a column `code`.
PER_SAMPLE = "per-sample"


@dataclass(frozen=True)
class CodeSampler:
    """The distribution of codes.

    Args:
        family: `random`: independent phases; `dft2d`: distinct beams of the two-dimensional DFT, in random
            order; `hadamard`: distinct rows of +-1 of the next Sylvester matrix, cut to N.
        bits: resolution of `random`.
        amplitude_jitter: standard deviation of an element's amplitude from 1, anew in each snapshot.
        dropout: share of elements that reflect nothing, anew in each snapshot.
    """

    family: str
    bits: int
    amplitude_jitter: float
    dropout: float

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        checks = {
            "family": (self.family in CODE_FAMILIES, f"one of {', '.join(CODE_FAMILIES)}"),
            "bits": (1 <= self.bits <= 8, "in [1, 8]"),
            "amplitude_jitter": (0 <= self.amplitude_jitter <= 1, "in [0, 1]"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
        }
        for name, (ok, rule) in checks.items():
            require(ok, f"simulator.codes.{name}", getattr(self, name), rule)

    def draw(
        self, snapshots: int, rows: int, columns: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draw a codebook.

        Args:
            snapshots: codes L.
            rows: rows of the surface.
            columns: columns of the surface.
            rng: source of randomness.

        Returns:
            `phase`: indices of 2 pi / 256, [L, N], uint8; and `gain`, [L, N], float32, unless all are 1.

        Raises:
            InputError: on more snapshots than the family has codes.
        """
        phase = self._phases(snapshots, rows, columns, rng)
        if not self.amplitude_jitter and not self.dropout:
            return {"phase": phase}
        gain = np.maximum(0, 1 + self.amplitude_jitter * rng.standard_normal(phase.shape))
        gain *= rng.uniform(size=phase.shape) >= self.dropout
        return {"phase": phase, "gain": gain.astype(np.float32)}

    def _phases(self, snapshots: int, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
        size = rows * columns
        if self.family == "random":
            levels = rng.integers(0, 2**self.bits, (snapshots, size))
            return np.asarray(levels * (PHASES // 2**self.bits), dtype=np.uint8)
        order = 1 << (size - 1).bit_length()
        # Beyond the largest power of two within N, rows cut to N repeat earlier ones nearly whole.
        available = size if self.family == "dft2d" else 1 << (size.bit_length() - 1)
        require(
            snapshots <= available,
            "simulator.snapshots",
            snapshots,
            f"at most {available} for the {self.family} codes",
        )
        chosen = rng.permutation(available)[:snapshots]
        if self.family == "hadamard":
            return np.where(hadamard(order)[chosen, :size] > 0, 0, PHASES // 2).astype(np.uint8)
        beam_row, beam_column = np.divmod(chosen[:, None], columns)
        row, column = np.divmod(np.arange(size), columns)
        turns = beam_row * row / rows + beam_column * column / columns
        return np.rint(turns * PHASES).astype(np.int64).astype(np.uint8)


def code_values(codebook: Mapping[str, np.ndarray]) -> np.ndarray:
    """Codes, complex64, of `phase` in units of 2 pi / 256 and, where they are not all 1, of `gain`."""
    values = np.exp(2j * np.pi / PHASES * codebook["phase"])
    return np.asarray(values * codebook.get("gain", 1), dtype=np.complex64)
