"""What a trial reports: of ristune's own workers, and of anybody's Tune script."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from ristune.training.record import Status

# Between the names of nested results that Ray has flattened.
SEPARATOR = "/"


def sound(report: Mapping[str, Any]) -> bool:
    """Whether a report may enter a rung: not diverged, with a finite objective from a finite validation."""
    return (
        "epoch" in report
        and _finite(report.get("objective"))
        and report.get("status") not in ("diverged", "oom", "failed")
        and bool(report.get("best_epoch", 1))
    )


def own_report(result: Mapping[str, Any]) -> dict[str, Any]:
    """A worker's result, its nested record put together again.

    Args:
        result: as Ray hands it on, flat or not.

    Returns:
        `epoch`, `objective`, `best_epoch`, `status`, `reason`, and what else the worker says.
    """
    prefix = f"record{SEPARATOR}"
    record = {name.removeprefix(prefix): v for name, v in result.items() if name.startswith(prefix)}
    rest = {name: value for name, value in result.items() if not name.startswith(prefix)}
    return {**rest, "record": record or result.get("record")}


def plain_report(
    result: Mapping[str, Any],
    metric: str,
    sign: int,
    time_attr: str,
    best: float | None,
    best_epoch: int,
    ceiling: float,
) -> dict[str, Any]:
    """The result of a Tune script as a report.

    Args:
        result: as Ray hands it on, flat.
        metric: its name for what is optimised; a result without it is one of a trial that failed.
        sign: 1 where it is minimised, -1 where it is maximised.
        time_attr: its name for how far it is.
        best: signed, of the reports before; None if none was finite.
        best_epoch: of that one.
        ceiling: the objective while there is no finite one.

    Returns:
        As `own_report`; the record holds the result's numbers.
    """
    wrong = _refusal(result, metric, time_attr)
    if wrong:
        return {"epoch": 0, "status": str(Status.FAILED), "reason": wrong, "record": None}
    epoch, value = int(result[time_attr]), number(result[metric])
    finite = _finite(value)
    if finite and (best is None or sign * value < best):
        best, best_epoch = sign * value, epoch
    reason = "" if finite else f"{metric} is {value}"
    values = {name: number(value) for name, value in result.items() if name != "done"}
    plain = {name: value for name, value in values.items() if isinstance(value, bool | int | float)}
    row = {
        "epoch": epoch,
        "objective": ceiling if best is None else best,
        "best_epoch": best_epoch,
        "status": str(Status.RUNNING if finite else Status.DIVERGED),
        "reason": reason,
    }
    seconds = {"seconds": float(result.get("time_this_iter_s", 0.0)), "samples_per_second": 0.0}
    return {**row, "record": {**plain, **seconds, **row}, "warnings": []}


def number(value: Any) -> Any:
    """A number of NumPy's, or a tensor of one, as Python's own; anything else as it is."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Real) or getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _refusal(result: Mapping[str, Any], metric: str, time_attr: str) -> str:
    """Why a result of a script cannot be a report; empty if it can."""
    if metric not in result and time_attr not in result:
        return "it ended without a report"
    for name in (time_attr, metric):
        if name not in result:
            return f"a report must have {name!r}"
    count = number(result[time_attr])
    if not _finite(count) or count != int(count) or count < 1:
        return f"{time_attr} must count from 1 on, and is {count!r}: give another time_attr"
    return ""


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
