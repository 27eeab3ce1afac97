"""How well sources were found: assignment, errors, and the share that was found at all."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ristune.nearfield.geometry import angles, positions
from ristune.nearfield.music import Estimates

GATE_DEG = 3.0
# Longer than any distance in a scene: a pair within the gate is always preferred.
OUTSIDE_GATE = 1e6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Totals over scenes; a hit is an assigned pair whose directions differ by at most the gate.

    Attributes:
        truths: true sources.
        estimates: estimated sources.
        azimuth_error: degrees, wrapped, one a hit.
        elevation_error: degrees, one a hit.
        range_error: metres, one a hit.
        angle_error: great-circle error in degrees, one a hit.
    """

    truths: int
    estimates: int
    azimuth_error: Floats
    elevation_error: Floats
    range_error: Floats
    angle_error: Floats

    @property
    def hits(self) -> int:
        """Pairs within the gate."""
        return len(self.angle_error)

    @property
    def recall(self) -> float:
        """Share of the true sources that were hit."""
        return self.hits / max(1, self.truths)

    @property
    def precision(self) -> float:
        """Share of the estimates that are hits."""
        return self.hits / max(1, self.estimates)

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        return 2 * self.hits / max(1, self.truths + self.estimates)

    def row(self) -> dict[str, float]:
        """Figures of a table: RMSE of az and el (deg) and range (m), medians (`~`) of angle and range.

        Errors are over hits only, so they mean nothing without the recall beside them.
        """
        return {
            "recall": self.recall,
            "prec.": self.precision,
            "F1": self.f1,
            "az": _rms(self.azimuth_error),
            "el": _rms(self.elevation_error),
            "range": _rms(self.range_error),
            "~angle": _median(self.angle_error),
            "~range": _median(self.range_error),
        }


def score(estimates: Estimates, truth: Tensor, num_sources: Tensor, gate_deg: float = GATE_DEG) -> Score:
    """Assign estimates to true sources and measure them.

    The Hungarian assignment takes as many pairs within the gate as there can be, and among those
    assignments the least total 3-D distance.

    Args:
        estimates: [B, K'] points.
        truth: (u, v, w) of the true sources, [B, K, 3].
        num_sources: K of each scene, [B].
        gate_deg: greatest angle between the directions of a hit, degrees.
    """
    pairs: list[Floats] = []
    total_truths = total_estimates = 0
    for scene in range(len(truth)):
        true = truth[scene, : int(num_sources[scene])].double().cpu()
        guess = estimates.points[scene][estimates.found[scene]].double().cpu()
        total_truths += len(true)
        total_estimates += len(guess)
        pairs.append(_hits(true, guess, gate_deg))
    errors = np.concatenate([np.zeros((0, 4)), *pairs])
    return Score(total_truths, total_estimates, *(errors[:, column] for column in range(4)))


def _hits(true: Tensor, guess: Tensor, gate_deg: float) -> Floats:
    """Errors of the pairs within the gate, [hits, 4]: azimuth, elevation (deg), range (m), angle (deg)."""
    true_at, guess_at = positions(true), positions(guess)
    distance = torch.cdist(true_at, guess_at)
    towards = torch.nn.functional.normalize(true_at, dim=-1), torch.nn.functional.normalize(guess_at, dim=-1)
    # The chord is accurate for small angles, where the arc cosine of a product is not.
    chord = torch.cdist(*towards, compute_mode="donot_use_mm_for_euclid_dist")
    angle = torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1)))
    rows, columns = linear_sum_assignment((distance + OUTSIDE_GATE * (angle > gate_deg)).numpy())
    hit = angle[rows, columns].numpy() <= gate_deg
    rows, columns = rows[hit], columns[hit]
    (az, el, r), (az_hat, el_hat, r_hat) = angles(true[rows]), angles(guess[columns])
    wrapped = torch.remainder(az_hat - az + torch.pi, 2 * torch.pi) - torch.pi
    parts = [torch.rad2deg(wrapped), torch.rad2deg(el_hat - el), r_hat - r, angle[rows, columns]]
    return np.asarray(torch.stack(parts, dim=-1).numpy())


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2))) if len(errors) else float("nan")


def _median(errors: Floats) -> float:
    return float(np.median(np.abs(errors))) if len(errors) else float("nan")
