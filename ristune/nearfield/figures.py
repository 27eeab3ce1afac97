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


@dataclass(frozen=True)
class Scene:
    """One scene: what the network says, the truth, and estimates.

    Attributes:
        power: gamma over v and u, the largest over 1 / range, [V, U].
        extent: (least u, greatest u, least v, greatest v).
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
    count = int(prepared["num_sources"][0])
    one = {name: values[:1] for name, values in prepared.items()}
    located = Estimators(task, task.field_of_view.limits()).locate(
        {name: values[:1] for name, values in output.items()}, one
    )
    estimates = {name: located[name].estimates for name in (HYBRID, MAXIMUM_LIKELIHOOD)}
    (low_w, _), (low_v, high_v), (low_u, high_u) = task.field_of_view.limits()
    return Scene(
        prediction(output).gamma[0].reshape(task.grid.shape).amax(0).cpu(),
        (low_u, high_u, low_v, high_v),
        true_points(one)[0, :count].cpu(),
        {name: found.points[0][found.found[0]] for name, found in estimates.items()},
        float(prepared["snr_db"][0]),
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
    bins = np.round(levels / step) * step
    bound = np.concatenate([_root_mean_square(getattr(part.bound, name).numpy()) for part in parts])
    shown = sorted(set(bins.tolist()))
    offsets = np.cumsum([0, *(len(part.snr_db) for part in parts)])
    for estimator, (marker, dash) in DRAWN.items():
        at, errors = _hits(parts, offsets, estimator, name)
        values = [_rms(errors[bins[at] == level], FEWEST) * factor for level in shown]
        axes.plot(shown, values, dash, marker=marker, label=estimator)
    floor = [_rms(bound[bins == level], 1) * factor for level in shown]
    axes.plot(shown, floor, "k-", linewidth=2, label="Cramer-Rao bound, root mean square")
    axes.set(xlabel="SNR [dB]", ylabel=f"RMSE over hits [{unit}]", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")


def _hits(
    parts: Sequence[Comparison], offsets: np.ndarray, estimator: str, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scenes, counted over all parts, and errors of the pairs within the gate."""
    hits = [part.scores[estimator].hits for part in parts]
    at = np.concatenate([hit.scene + offset for hit, offset in zip(hits, offsets, strict=False)])
    return at, np.concatenate([getattr(hit, name) for hit in hits])


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
        u, v, _ = points.T.cpu().numpy()
        axes.scatter(u, v, marker=marker, s=90, color=colour, linewidths=2, label=name)
    axes.set(xlabel="u = sin(az) cos(el)", ylabel="v = sin(el)")
    axes.set_title(f"K = {len(example.truth)}, SNR {example.snr_db:.1f} dB")
    axes.legend(loc="lower right", fontsize="small")


def _root_mean_square(values: np.ndarray) -> np.ndarray:
    """Over the sources of each scene, [B, K] with NaN where there is none, to [B]."""
    return np.asarray(np.sqrt(np.nanmean(values**2, axis=1)))


def _rms(values: np.ndarray, fewest: int) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) >= fewest else math.nan
