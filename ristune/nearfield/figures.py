"""What an evaluation shows: errors against SNR, recall against separation, and the spectrum of a scene."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ristune.nearfield.estimators import EXCHANGED, HYBRID, MAXIMUM_LIKELIHOOD, Estimators
from ristune.nearfield.loss import prediction
from ristune.nearfield.measuring import PREDICTED, Batch, Comparison, Measured
from ristune.nearfield.metrics import GATE_DEG
from ristune.nearfield.scene import true_points

# Told apart by marker and dash as well as by colour.
DRAWN = {
    MAXIMUM_LIKELIHOOD: ("o", "-"),
    EXCHANGED: ("s", "--"),
    HYBRID: ("^", "-"),
    "control: matched filter": ("v", ":"),
    "control: untrained network": ("x", ":"),
    PREDICTED: ("d", "-."),
}
SEPARATION_EDGES = (0.0, 10.0, 15.0, 20.0, 30.0, 45.0, 90.0)
# Fewer sources than these tell nothing of a rate.
FEWEST = 10
DYNAMIC_DB = 25.0
# More levels of SNR than these are gathered by steps.
MOST_LEVELS = 12
BOUND = "Cramer-Rao bound"


@dataclass(frozen=True)
class Scene:
    """One scene: what the network says, the truth, and estimates.

    Attributes:
        power: gamma over v and u, the largest over 1 / range, [V, U].
        extent: (least u, greatest u, least v, greatest v) of the picture.
        truth: (u, v, w), [K, 3].
        estimates: (u, v, w) by estimator, [K', 3].
        snr_db: dB.
    """

    power: Tensor
    extent: tuple[float, float, float, float]
    truth: Tensor
    estimates: dict[str, Tensor]
    snr_db: float


def scene(task: Measured, output: Batch, prepared: Batch) -> Scene:
    """The first scene of a prepared batch, with what hybrid and maximum likelihood find in it."""
    one, said = ({name: values[:1] for name, values in each.items()} for each in (prepared, output))
    data, counts = task.observation(one), one["num_sources"]
    estimators = Estimators(task, task.field_of_view.limits())
    found = {
        HYBRID: estimators.hybrid(said, data, counts),
        MAXIMUM_LIKELIHOOD: estimators.likelihood(data, counts, passes=0),
    }
    _, (low_v, high_v), (low_u, high_u) = task.field_of_view.limits()
    _, rows, columns = task.grid.shape
    # The outermost points lie on the limits, and a picture ends at the edges of its pixels.
    beside_u, beside_v = (high_u - low_u) / (columns - 1) / 2, (high_v - low_v) / (rows - 1) / 2
    return Scene(
        prediction(said).gamma[0].reshape(task.grid.shape).amax(0).cpu(),
        (low_u - beside_u, high_u + beside_u, low_v - beside_v, high_v + beside_v),
        true_points(one)[0, : int(counts[0])].cpu(),
        {name: each.points[0][each.found[0]].cpu() for name, each in found.items()},
        float(one["snr_db"][0]),
    )


def of(parts: Sequence[Comparison], example: Scene, step: float) -> dict[str, Callable[[Any], None]]:
    """Figures by title, each a function that draws on matplotlib axes.

    Args:
        parts: comparisons, of one split or of cells.
        example: the scene to be shown.
        step: steps of SNR, dB, that scenes are gathered by.
    """
    errors = {
        f"RMSE of {title} against SNR": lambda axes, name=name, unit=unit, factor=factor: _against_snr(
            axes, parts, name, unit, factor, step
        )
        for title, name, unit, factor in (
            ("azimuth", "azimuth", "deg", 180 / math.pi),
            ("elevation", "elevation", "deg", 180 / math.pi),
            ("range", "range", "m", 1.0),
        )
    }
    return {
        **errors,
        "recall against separation": lambda axes: _against_separation(axes, parts),
        "one scene: predicted power, truth and estimates": lambda axes: _spectrum(axes, example),
    }


def _against_snr(
    axes: Any, parts: Sequence[Comparison], name: str, unit: str, factor: float, step: float
) -> None:
    levels = np.concatenate([part.snr_db.numpy() for part in parts])
    # Cells have few levels; a split is gathered by steps, each drawn at its middle.
    bins = levels if len(np.unique(levels)) <= MOST_LEVELS else (np.floor(levels / step) + 0.5) * step
    shown = sorted(set(bins.tolist()))
    for estimator, (marker, dash) in DRAWN.items():
        at, errors, _ = _hits(parts, estimator, name)
        values = [_rms(errors[bins[at] == level], FEWEST) * factor for level in shown]
        axes.plot(shown, values, dash, marker=marker, label=estimator)
    at, _, bound = _hits(parts, EXCHANGED, name)
    floor = [_rms(bound[bins[at] == level], FEWEST) * factor for level in shown]
    axes.plot(shown, floor, "k-", linewidth=2, label=f"{BOUND}, of what {EXCHANGED} hits")
    axes.set(xlabel="SNR [dB]", ylabel=f"RMSE over hits, within {GATE_DEG:g} deg [{unit}]", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")


def _hits(
    parts: Sequence[Comparison], estimator: str, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs within the gate: the scene, counted over all parts, the error, and the source's bound."""
    before, scenes, errors, bounds = 0, [], [], []
    for part in parts:
        hits = part.scores[estimator].hits
        scenes.append(hits.scene + before)
        errors.append(getattr(hits, name))
        bounds.append(getattr(part.bound, name).numpy()[hits.scene, hits.source])
        before += len(part.snr_db)
    return np.concatenate(scenes), np.concatenate(errors), np.concatenate(bounds)


def _against_separation(axes: Any, parts: Sequence[Comparison]) -> None:
    edges = np.array(SEPARATION_EDGES)
    middle = (edges[1:] + edges[:-1]) / 2
    for estimator, (marker, dash) in DRAWN.items():
        angle, hit = [], []
        for part in parts:
            found = np.zeros(part.separation.shape, bool)
            hits = part.scores[estimator].hits
            found[hits.scene, hits.source] = True
            apart = part.separation.numpy()
            # Single sources have no neighbour.
            angle.append(apart[np.isfinite(apart)])
            hit.append(found[np.isfinite(apart)])
        place, good = np.digitize(np.concatenate(angle), edges) - 1, np.concatenate(hit)
        rates = [
            good[place == index].mean() if (place == index).sum() >= FEWEST else math.nan
            for index in range(len(middle))
        ]
        axes.plot(middle, rates, dash, marker=marker, label=estimator)
    axes.set(xlabel="angle to the nearest other source [deg]", ylabel="recall", ylim=(0, 1.05))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")


def _spectrum(axes: Any, example: Scene) -> None:
    level = 10 * torch.log10(example.power / example.power.max() + 1e-12)
    image = axes.imshow(
        level.clamp(min=-DYNAMIC_DB).numpy(),
        origin="lower",
        extent=example.extent,
        aspect="auto",
        cmap="viridis",
    )
    axes.figure.colorbar(image, ax=axes, label="predicted power [dB]")
    u, v, w = example.truth.T.numpy()
    axes.scatter(u, v, marker="o", s=160, facecolors="none", edgecolors="white", linewidths=2, label="truth")
    for place_u, place_v, inverse in zip(u, v, w, strict=True):
        axes.annotate(
            f"{1 / inverse:.1f} m",
            (place_u, place_v),
            xytext=(9, 7),
            textcoords="offset points",
            color="white",
        )
    for (name, points), marker, colour in zip(
        example.estimates.items(), ("x", "+"), ("red", "orange"), strict=True
    ):
        u, v, _ = points.T.numpy()
        axes.scatter(u, v, marker=marker, s=90, color=colour, linewidths=2, label=name)
    axes.set(xlabel="u = sin(az) cos(el)", ylabel="v = sin(el)")
    axes.set_title(f"K = {len(example.truth)}, SNR {example.snr_db:.1f} dB")
    axes.legend(loc="lower right", fontsize="small")


def _rms(values: np.ndarray, fewest: int) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) >= fewest else math.nan
