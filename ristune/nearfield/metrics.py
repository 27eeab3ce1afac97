"""How well sources were found: assignment, errors, and the share that was found at all."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ristune.nearfield.bound import Bound
from ristune.nearfield.geometry import angles, positions
from ristune.nearfield.music import Estimates

GATE_DEG = 3.0
# A scene is a success if every source is found and none is off by more in azimuth or elevation.
SUCCESS_DEG = 1.0
# Longer than any distance in a scene: a pair within the gate is always preferred.
OUTSIDE_GATE = 1e6
# Metres from which on a source counts as not found, and the order of the mean, of OSPA and GOSPA.
CUTOFF, ORDER = 1.0, 2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """Assigned pairs whose directions differ by at most the gate, [H] each.

    Attributes:
        scene: which.
        source: of the scene, the place among its labels.
        azimuth: error, radians, wrapped.
        elevation: error, radians.
        range: error, metres.
        inverse_range: error of 1 / range, 1 / metre.
        angle: great-circle error, radians.
    """

    scene: Ints
    source: Ints
    azimuth: Floats
    elevation: Floats
    range: Floats
    inverse_range: Floats
    angle: Floats


@dataclass(frozen=True)
class Score:
    """Scenes one by one, [B] each, and the pairs that hit.

    Attributes:
        truths: true sources.
        estimates: estimated sources.
        hit: pairs within the gate.
        success: whether as many sources were found as there are, each within `SUCCESS_DEG`.
        ospa: optimal sub-pattern assignment distance, metres (Schuhmacher, Vo and Vo, 2008).
        gospa: its generalisation with alpha = 2, metres, which counts misses and false alarms and is not
            divided by the number of sources (Rahmathullah, Garcia-Fernandez and Svensson, 2017).
        hits: errors of the pairs within the gate.
    """

    truths: Ints
    estimates: Ints
    hit: Ints
    success: NDArray[np.bool_]
    ospa: Floats
    gospa: Floats
    hits: Hits

    @property
    def recall(self) -> float:
        """Share of the true sources that were hit."""
        return float(self.hit.sum() / max(1, self.truths.sum()))

    @property
    def precision(self) -> float:
        """Share of the estimates that are hits."""
        return float(self.hit.sum() / max(1, self.estimates.sum()))

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        return float(2 * self.hit.sum() / max(1, (self.truths + self.estimates).sum()))

    def confusion(self, most: int) -> Ints:
        """Scenes by true (rows) and estimated (columns) number of sources, [most + 1, most + 1]."""
        counts = np.zeros((most + 1, most + 1), np.int64)
        np.add.at(counts, (np.minimum(self.truths, most), np.minimum(self.estimates, most)), 1)
        return counts

    def row(self) -> dict[str, float]:
        """All figures of a table: `found` and `errors`."""
        return {**self.found(), **self.errors()}

    def found(self) -> dict[str, float]:
        """What was found at all: shares, and the mean OSPA in metres."""
        return {
            "success": float(self.success.mean()) if len(self.success) else float("nan"),
            "recall": self.recall,
            "prec.": self.precision,
            "F1": self.f1,
            "OSPA": float(self.ospa.mean()) if len(self.ospa) else float("nan"),
        }

    def errors(self) -> dict[str, float]:
        """RMSE of az and el (deg) and range (m), medians (`~`) of angle and range.

        They are over hits only, so they mean nothing without what was found beside them.
        """
        hits = self.hits
        return {
            "az": _rms(np.degrees(hits.azimuth)),
            "el": _rms(np.degrees(hits.elevation)),
            "range": _rms(hits.range),
            "~angle": _median(np.degrees(hits.angle)),
            "~range": _median(hits.range),
        }

    def bound_ratios(self, bound: Bound) -> dict[str, float]:
        """Root mean square of errors, each divided by its own bound, over the scenes that are a success.

        Args:
            bound: of the true sources, [B, K].

        Returns:
            By `azimuth`, `elevation` and `inverse_range`; 1 is an efficient estimator, NaN no success.
        """
        hits = self.hits
        good = self.success[hits.scene]
        at = hits.scene[good], hits.source[good]
        return {
            name: _rms(getattr(hits, name)[good] / getattr(bound, name).cpu().numpy()[at])
            for name in ("azimuth", "elevation", "inverse_range")
        }


def f1_advantage(
    first: Score, second: Score, rng: np.random.Generator, draws: int = 4000
) -> tuple[float, float, float]:
    """F1 of one estimator less that of another on the same scenes.

    Scenes are drawn with replacement, both estimators' together (paired bootstrap; Efron, 1979).

    Args:
        first: of one estimator.
        second: of the other.
        rng: draws the scenes.
        draws: how often.

    Returns:
        The difference, and the ends of its central 95 % interval.
    """
    count = len(first.truths)
    chosen = rng.multinomial(count, np.full(count, 1 / count), draws)
    sizes = [each.truths + each.estimates for each in (first, second)]

    def f1(weights: Ints) -> Floats:
        mine, other = (
            2 * (weights @ each.hit) / np.maximum(1, weights @ size)
            for each, size in zip((first, second), sizes, strict=True)
        )
        return np.asarray(mine - other)

    low, high = np.quantile(f1(chosen), [0.025, 0.975])
    return float(first.f1 - second.f1), float(low), float(high)


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
    parts: list[Floats] = []
    totals = np.zeros((len(truth), 3), np.int64)
    distances = np.zeros((len(truth), 2))
    success = np.zeros(len(truth), np.bool_)
    for scene in range(len(truth)):
        true = truth[scene, : int(num_sources[scene])].double().cpu()
        guess = estimates.points[scene][estimates.found[scene]].double().cpu()
        pairs = _hits(true, guess, gate_deg)
        parts.append(np.insert(pairs, 0, scene, axis=1))
        totals[scene] = len(true), len(guess), len(pairs)
        distances[scene] = _ospa(true, guess)
        within = np.abs(pairs[:, 1:3]).max(initial=0) <= np.radians(SUCCESS_DEG)
        success[scene] = len(true) == len(guess) == len(pairs) and within
    columns = np.concatenate([np.zeros((0, 7)), *parts]).T
    hits = Hits(columns[0].astype(np.int64), columns[1].astype(np.int64), *columns[2:])
    (truths, guesses, hit), (ospa, gospa) = totals.T, distances.T
    return Score(truths, guesses, hit, success, ospa, gospa, hits)


def _hits(true: Tensor, guess: Tensor, gate_deg: float) -> Floats:
    """Pairs within the gate, [hits, 6]: the true source, then the errors in the order of `Hits`."""
    true_at, guess_at = positions(true), positions(guess)
    distance = torch.cdist(true_at, guess_at)
    towards = torch.nn.functional.normalize(true_at, dim=-1), torch.nn.functional.normalize(guess_at, dim=-1)
    # The chord is accurate for small angles, where the arc cosine of a product is not.
    chord = torch.cdist(*towards, compute_mode="donot_use_mm_for_euclid_dist")
    angle = 2 * torch.asin((chord / 2).clamp(max=1))
    outside = angle > np.radians(gate_deg)
    rows, columns = linear_sum_assignment((distance + OUTSIDE_GATE * outside).numpy())
    hit = ~outside[rows, columns].numpy()
    rows, columns = rows[hit], columns[hit]
    (az, el, r), (az_hat, el_hat, r_hat) = angles(true[rows]), angles(guess[columns])
    wrapped = torch.remainder(az_hat - az + torch.pi, 2 * torch.pi) - torch.pi
    inverse = guess[columns, 2] - true[rows, 2]
    parts = [torch.from_numpy(rows), wrapped, el_hat - el, r_hat - r, inverse, angle[rows, columns]]
    return np.asarray(torch.stack(parts, dim=-1).numpy())


def _ospa(true: Tensor, guess: Tensor) -> tuple[float, float]:
    """OSPA and GOSPA of one scene, metres."""
    most, least = max(len(true), len(guess)), min(len(true), len(guess))
    if not most:
        return 0.0, 0.0
    cost = torch.cdist(positions(true), positions(guess)).clamp(max=CUTOFF).numpy() ** ORDER
    paired = float(cost[linear_sum_assignment(cost)].sum())
    alone = (most - least) * CUTOFF**ORDER
    return ((paired + alone) / most) ** (1 / ORDER), (paired + alone / 2) ** (1 / ORDER)


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2))) if len(errors) else float("nan")


def _median(errors: Floats) -> float:
    return float(np.median(np.abs(errors))) if len(errors) else float("nan")
