"""Tables and figures of a trained network beside the floor, other estimators and the bound."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield import figures
from ristune.nearfield.estimators import EXCHANGED, HYBRID, MAXIMUM_LIKELIHOOD
from ristune.nearfield.measuring import Batch, Comparison, Measured, Predict, compare
from ristune.nearfield.metrics import GATE_DEG, SUCCESS_DEG, Score, f1_advantage

Rows = list[dict[str, Any]]
SNR_STEP = 5.0
NMSE_ROWS = {
    "nmse_floor": "floor: R_pred = I",
    "nmse_constant": "best constant",
    "nmse_samp": "R_samp (ridge)",
    "nmse_pred": "network R_pred",
    "nmse_blend": "network R_blend",
}
RATIOS = {"az": "azimuth", "el": "elevation", "1/r": "inverse_range"}
# What a cell may fix, and the simulator's values that do.
CELL_VALUES = {"snr": "channel.snr_db", "k": "scene.num_sources"}


@dataclass(frozen=True)
class Findings:
    """What an evaluation shows.

    Attributes:
        tables: rows by title; the first column of a row is its name.
        figures: by title, functions that draw on matplotlib axes.
    """

    tables: dict[str, Rows]
    figures: dict[str, Callable[[Any], None]] = field(default_factory=dict)


def evaluate(task: Measured, batches: Iterable[Batch], predict: Predict, scenes: int) -> Findings:
    """Measure a network on a split.

    Args:
        task: the task.
        batches: the split.
        predict: a batch to the network's output and the prepared batch.
        scenes: how many are localised; the covariance errors use every one.

    Returns:
        Covariance NMSE by K and by SNR, localisation, its errors, alone and over the bound, and the counts of
        sources; and figures.
    """
    example = _Example(predict)
    found = compare(task, example.watch(batches), predict, scenes)
    total, snr = len(found.all_counts), found.all_snr_db
    by_snr = {f"{low:g} dB..": (snr >= low) & (snr < low + SNR_STEP) for low in _steps(snr)}
    by_k = {f"K = {k}": found.all_counts == k for k in sorted(set(found.all_counts.tolist()))}
    tables = {
        f"covariance NMSE by K, {total} scenes": _error_rows(found.errors, by_k),
        f"covariance NMSE by SNR, steps of {SNR_STEP:g} dB": _error_rows(found.errors, by_snr),
    }
    return Findings(tables | _localisation(task, found), figures.of([found], example.scene(task), SNR_STEP))


def evaluate_cells(
    task: Measured, cells: Mapping[str, Iterable[Batch]], predict: Predict, scenes: int
) -> Findings:
    """Measure estimators cell by cell: a row an estimator, a column a cell.

    Args:
        task: the task.
        cells: batches by title, each of one SNR and one K.
        predict: a batch to the network's output and the prepared batch.
        scenes: how many of each cell.
    """
    example = _Example(predict)
    found = {
        title: compare(task, example.watch(batches), predict, scenes) for title, batches in cells.items()
    }
    columns: dict[str, Callable[[Comparison, str], Any]] = {
        f"success: all sources within {SUCCESS_DEG:g} deg": lambda at, name: at.scores[name].found()[
            "success"
        ],
        f"F1 at {GATE_DEG:g} deg": lambda at, name: at.scores[name].f1,
        "RMSE of az over hits [deg]": lambda at, name: at.scores[name].errors()["az"],
        "RMSE of el over hits [deg]": lambda at, name: at.scores[name].errors()["el"],
        "RMSE of range over hits [m]": lambda at, name: at.scores[name].errors()["range"],
        **{
            f"error of {short} over the bound, successes only": _ratio(long) for short, long in RATIOS.items()
        },
        "ms a scene, with all that it needs": lambda at, name: at.milliseconds[name],
    }
    names = list(next(iter(found.values())).scores)
    tables = {
        f"{title}; {scenes} scenes a cell": [
            {"estimator": name, **{cell: value(at, name) for cell, at in found.items()}} for name in names
        ]
        for title, value in columns.items()
    }
    bound = {cell: _median_bound(at) for cell, at in found.items()}
    tables["median Cramer-Rao bound: az, el [deg], range [m]"] = [
        {"bound of": name, **{cell: values[name] for cell, values in bound.items()}}
        for name in ("az", "el", "range")
    ]
    others = [name for name in names if name.startswith("control")] + [MAXIMUM_LIKELIHOOD, EXCHANGED]
    tables["F1 of the hybrid less that of others: mean, and 95 % by a paired bootstrap over scenes"] = [
        {
            "less": name,
            **{cell: _advantage(at.scores[HYBRID], at.scores[name]) for cell, at in found.items()},
        }
        for name in others
    ]
    return Findings(tables, figures.of(list(found.values()), example.scene(task), SNR_STEP))


def cell_values(values: Mapping[str, float], max_sources: int) -> dict[str, Any]:
    """What the simulator draws a cell with.

    Args:
        values: by `snr` (dB) and `k`.
        max_sources: the largest K that the network tells.

    Returns:
        Values by path within the simulator's configuration.

    Raises:
        InputError: if a name is another one, or K no number of sources that the network tells.
    """
    for name, value in values.items():
        if name not in CELL_VALUES:
            raise InputError("--cells", name, f"it must be one of {', '.join(CELL_VALUES)}", "correct it")
        if name == "k" and (not 1 <= value <= max_sources or value != int(value)):
            rule = f"it must be a whole number from 1 to task.max_sources = {max_sources}"
            raise InputError("--cells k", value, rule, "correct it, or train with a larger task.max_sources")
    return {
        CELL_VALUES[name]: [int(value)] * 2 if name == "k" else [value] * 2 for name, value in values.items()
    }


class _Example:
    """Keeps the scene of most sources, at the best SNR among those, to be shown."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._rank = (0, -math.inf)
        self._batch: Batch = {}

    def watch(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        for batch in batches:
            ranks = zip(batch["num_sources"].tolist(), batch["snr_db"].tolist(), strict=True)
            for index, rank in enumerate(ranks):
                if rank > self._rank:
                    self._rank = rank
                    self._batch = {name: values[index : index + 1] for name, values in batch.items()}
            yield batch

    def scene(self, task: Measured) -> figures.Scene:
        return figures.scene(task, *self._predict(self._batch))


def _localisation(task: Measured, found: Comparison) -> dict[str, Rows]:
    """What was found, how near, and how often the right number of sources."""
    title = (
        f"localisation, {len(found.snr_db)} scenes, told the true K but where said; success: all within "
        f"{SUCCESS_DEG:g} deg; hits: within {GATE_DEG:g} deg; OSPA [m]; ms a scene with all that it needs"
    )
    if task.source_model == "static":
        title += "; coherent sources: R has rank 1, and MUSIC cannot part them, given R_true neither"
    counted = [name for name in found.scores if ": K by" in name]
    most = int(found.all_counts.max())
    return {
        title: [
            {"estimator": name, **of.found(), "ms": found.milliseconds[name]}
            for name, of in found.scores.items()
        ],
        "errors of the hits: RMSE of az, el [deg] and range [m], medians ~": [
            {"estimator": name, **of.errors(), "recall": of.recall} for name, of in found.scores.items()
        ]
        + [{"estimator": _bound_name(found), **_bound_row(found)}],
        "errors of the successes, each over the Cramer-Rao bound of its source: root mean square": [
            {
                "estimator": name,
                **{short: _ratio(long)(found, name) for short, long in RATIOS.items()},
                "success": float(of.success.mean()),
            }
            for name, of in found.scores.items()
        ],
        "scenes by the number of sources, true (rows) and said (columns)": [
            {
                "": f"{name}, K = {k}",
                **{_said(said, most): int(number) for said, number in enumerate(row)},
            }
            for name in counted
            for k, row in enumerate(found.scores[name].confusion(most + 1))
            if 0 < k <= most
        ],
    }


def _said(count: int, most: int) -> str:
    """The heading of a number of sources: all above the true ones share the last column."""
    return f"{count}+" if count > most else str(count)


def _bound_name(found: Comparison) -> str:
    """With the number of sources that have none, as the snapshots do not tell where they are."""
    present = torch.arange(found.separation.shape[1]) < found.counts[:, None]
    missing = int((present & ~found.bound.range.isfinite()).sum())
    return f"{figures.BOUND}, median" + (f"; {missing} sources have none" if missing else "")


def _bound_row(found: Comparison) -> dict[str, float]:
    nothing = dict.fromkeys(["~angle", "~range", "recall"], math.nan)
    return {**_median_bound(found), **nothing}


def _median_bound(found: Comparison) -> dict[str, float]:
    """Over all sources: degrees and metres."""
    bound = found.bound
    return {
        "az": math.degrees(bound.azimuth.nanmedian().item()),
        "el": math.degrees(bound.elevation.nanmedian().item()),
        "range": bound.range.nanmedian().item(),
    }


def _ratio(name: str) -> Callable[[Comparison, str], float]:
    return lambda found, estimator: found.scores[estimator].bound_ratios(found.bound)[name]


def _advantage(first: Score, second: Score) -> str:
    mean, low, high = f1_advantage(first, second, np.random.default_rng(0))
    return f"{mean:+.3f} ({low:+.3f} {high:+.3f})"


def _steps(snr: Tensor) -> list[float]:
    """Lower ends of the steps of SNR that hold a scene, dB."""
    return sorted({math.floor(value / SNR_STEP) * SNR_STEP for value in snr.tolist()})


def _error_rows(errors: Mapping[str, Tensor], groups: Mapping[str, Tensor]) -> Rows:
    """Means over all scenes, [A] each, and over those of each group, a mask [A]."""
    return [
        {
            "covariance": title,
            "all": errors[name].mean().item(),
            **{group: errors[name][members].mean().item() for group, members in groups.items()},
        }
        for name, title in NMSE_ROWS.items()
    ]
