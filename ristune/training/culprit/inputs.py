"""Columns and weights that were not finite before the window."""

from collections.abc import Sequence

import torch

from ristune.training.culprit.finding import Finding, checkable, faults, is_finite
from ristune.training.culprit.report import Report
from ristune.training.task import Batch, Task


def input_findings(
    task: Task, batches: Sequence[Batch], report: Report
) -> tuple[list[Finding], list[Finding]]:
    """Weights and columns that were not finite to begin with: those with an effect, and those without.

    Args:
        task: the task.
        batches: raw columns of each micro-batch.
        report: what has been found of their effects.
    """
    parts: dict[str, list[str]] = {}
    for index, batch in enumerate(batches):
        for name, column in batch.items():
            if checkable(column) and not is_finite(column):
                rows = ~torch.isfinite(column).reshape(len(column), -1).all(1)
                found = rows.nonzero().flatten().tolist()
                some = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
                place = f" of micro-batch {index + 1}" if len(batches) > 1 else ""
                parts.setdefault(name, []).append(
                    f"{len(found)} of {len(rows)} rows{place} ({some}), {faults(column)}"
                )
    causes: list[Finding] = []
    spectators: list[Finding] = []
    for name, places in parts.items():
        effects = report.reached.get(("column", name), [])
        effect = f"it reaches {' and '.join(effects)}" if effects else "no loss term is affected by it"
        detail = f"column {name!r} is not finite in {'; '.join(places)}; {effect}"
        remedy = f"clean the column {name!r} where the dataset is made, or mask it by `where` before its use"
        finding = Finding("input", None, None, None, (), None, detail, remedy)
        (causes if effects else spectators).append(finding)
    for name, parameter in task.network.named_parameters():
        if checkable(parameter) and not is_finite(parameter):
            effects = report.reached.get(("parameter", name), [])
            detail = f"the weight {name} has {faults(parameter.detach())} before the window; "
            detail += f"it reaches {' and '.join(effects)}" if effects else "no loss term is affected by it"
            remedy = "go back to a checkpoint before it, and find the step or the code that wrote it"
            finding = Finding("input", None, None, None, (), None, detail, remedy)
            (causes if effects else spectators).append(finding)
    return causes, spectators
