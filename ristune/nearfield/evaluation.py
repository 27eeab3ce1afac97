"""Tables of a trained network beside the floor, the best constant, other estimators and the oracle."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ristune.nearfield.covariance import (
    blend,
    build_grid,
    identity,
    predicted_covariance,
    sample_covariance,
)
from ristune.nearfield.estimators import Estimators, Localises, Located, timed
from ristune.nearfield.likelihood import Region
from ristune.nearfield.loss import prediction
from ristune.nearfield.metrics import GATE_DEG, SUCCESS_DEG, Score, score
from ristune.nearfield.music import Estimates, music
from ristune.nearfield.scene import true_points

Batch = dict[str, Tensor]
Rows = list[dict[str, Any]]
# The search grid is this many times finer in u and v than the network's.
SEARCH_REFINEMENT = 2
SNR_STEP = 5.0
NMSE_ROWS = {
    "nmse_floor": "floor: R_pred = I",
    "nmse_constant": "best constant",
    "nmse_samp": "R_samp (ridge)",
    "nmse_pred": "network R_pred",
    "nmse_blend": "network R_blend",
}


class Evaluated(Localises, Protocol):
    """What is needed of the task."""

    beta: float
    source_model: str

    @property
    def field_of_view(self) -> Any:
        """Bounds of the estimates."""
        ...

    def metrics(self, output: Batch, batch: Batch) -> dict[str, Tensor]:
        """Covariance errors by name, [B]."""
        ...


def evaluate(
    task: Evaluated, batches: Iterable[Batch], predict: Callable[[Batch], tuple[Batch, Batch]], scenes: int
) -> dict[str, Rows]:
    """Measure a network on a split.

    Args:
        task: the task.
        batches: the split.
        predict: a batch to the network's output and the prepared batch.
        scenes: how many are localised; the covariance errors use every one.

    Returns:
        Rows by table title: covariance NMSE by K and by SNR, and localisation told the true K.
    """
    errors: dict[str, list[Tensor]] = defaultdict(list)
    counts: list[Tensor] = []
    levels: list[Tensor] = []
    located: dict[str, list[Located]] = defaultdict(list)
    truths: list[Tensor] = []
    search, estimators = Search(task), Estimators(task, task.field_of_view.limits())
    left, seconds = scenes, 0.0
    for batch in batches:
        started = time.perf_counter()
        output, prepared = predict(batch)
        # On a GPU this waits for all that was asked of it.
        counts.append(prepared["num_sources"].cpu())
        seconds += time.perf_counter() - started
        for name, values in task.metrics(output, prepared).items():
            errors[name].append(values.cpu())
        levels.append(prepared["snr_db"].cpu())
        if left > 0:
            some, said = _first(prepared, left), _first(output, left)
            for locate in (search.locate, estimators.locate):
                for name, found in locate(said, some).items():
                    located[name].append(found)
            truths.append(true_points(some).cpu())
            left -= len(truths[-1])
    num_sources = torch.cat(counts)
    joined = {name: torch.cat(errors[name]) for name in NMSE_ROWS}
    snr = torch.cat(levels)
    by_snr = {f"{low:g} dB..": (snr >= low) & (snr < low + SNR_STEP) for low in _steps(snr)}
    by_k = {f"K = {k}": num_sources == k for k in sorted(set(num_sources.tolist()))}
    tables = {
        f"covariance NMSE by K, {len(num_sources)} scenes": _error_rows(joined, by_k),
        f"covariance NMSE by SNR, steps of {SNR_STEP:g} dB": _error_rows(joined, by_snr),
    }
    truth = torch.cat(truths)
    scores = {name: _score(parts, truth, num_sources) for name, parts in located.items()}
    each = {name: _milliseconds(parts) for name, parts in located.items()}
    return tables | _localisation(task, scores, each, 1e3 * seconds / len(num_sources))


def _localisation(
    task: Evaluated, scores: dict[str, Score], each: dict[str, float], before: float
) -> dict[str, Rows]:
    """What was found, and how near; milliseconds a scene of each estimator and of what comes before it."""
    scenes = len(next(iter(scores.values())).truths)
    title = (
        f"localisation told the true K, {scenes} scenes; success: all within {SUCCESS_DEG:g} deg; "
        f"hits: within {GATE_DEG:g} deg; OSPA [m]; ms a scene, without {before:.2g} for ridge and network, "
        "which all but maximum likelihood need"
    )
    if task.source_model == "static":
        title += "; coherent sources: R has rank 1, and MUSIC cannot part them, given R_true neither"
    return {
        title: [{"estimator": name, **of.found(), "ms": each[name]} for name, of in scores.items()],
        "errors of the hits: RMSE of az, el [deg] and range [m], medians ~": [
            {"estimator": name, **of.errors(), "recall": of.recall} for name, of in scores.items()
        ],
    }


class Search:
    """Near-field MUSIC on every covariance that is compared, with one fixed search grid."""

    def __init__(self, task: Evaluated) -> None:
        w, v, u = task.grid.shape
        limits = task.field_of_view.limits()
        shape = (w, SEARCH_REFINEMENT * v, SEARCH_REFINEMENT * u)
        self._task = task
        self._grid = build_grid(task.geometry, shape, limits)
        self._region = Region.within(task.geometry, limits)

    def locate(self, output: Batch, batch: Batch) -> dict[str, Located]:
        """Estimates by name of the covariance, for the scenes of a prepared batch."""
        task = self._task
        sample = sample_covariance(batch["snapshots"], batch["diagonal"])
        predicted = predicted_covariance(prediction(output), task.grid)
        untrained = predicted_covariance(identity(len(predicted), task.grid), task.grid)
        candidates = {
            "MUSIC: floor, R_pred = I": blend(untrained, sample, task.beta),
            "MUSIC: R_samp (ridge)": sample,
            "MUSIC: network R_pred": predicted,
            "MUSIC: network R_blend": blend(predicted, sample, task.beta),
            "MUSIC: ORACLE R_true": batch["factor"] @ batch["factor"].mH,
        }
        counts = batch["num_sources"]
        return {name: timed(partial(self.music, matrix, counts)) for name, matrix in candidates.items()}

    def music(self, covariance: Tensor, num_sources: Tensor) -> Estimates:
        """Sources of covariances, [B, N, N], told how many there are."""
        grid, region = self._grid.to(covariance.device), self._region.to(covariance.device)
        return music(covariance, num_sources, grid, region.geometry, region.low, region.high)


def _first(batch: Batch, count: int) -> Batch:
    return {name: values[:count] for name, values in batch.items()}


def _milliseconds(parts: list[Located]) -> float:
    return 1e3 * sum(part.seconds for part in parts) / sum(len(part.estimates.found) for part in parts)


def _score(parts: list[Located], truth: Tensor, num_sources: Tensor) -> Score:
    found = [part.estimates for part in parts]
    # Batches differ in their largest K: pad to the widest before they are joined.
    most = max(part.points.shape[1] for part in found)
    pad = torch.nn.functional.pad
    joined = Estimates(
        torch.cat([pad(part.points, (0, 0, 0, most - part.points.shape[1])) for part in found]),
        torch.cat([pad(part.found, (0, most - part.found.shape[1])) for part in found]),
    )
    return score(joined, truth, num_sources)


def _steps(snr: Tensor) -> list[float]:
    """Lower ends of the steps of SNR that hold a scene, dB."""
    return sorted({math.floor(value / SNR_STEP) * SNR_STEP for value in snr.tolist()})


def _error_rows(errors: dict[str, Tensor], groups: dict[str, Tensor]) -> Rows:
    """Means over all scenes, [B] each, and over those of each group, a mask [B]."""
    return [
        {
            "covariance": title,
            "all": errors[name].mean().item(),
            **{group: errors[name][members].mean().item() for group, members in groups.items()},
        }
        for name, title in NMSE_ROWS.items()
    ]
