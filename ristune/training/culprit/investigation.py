"""The passes through a window that was not finite, and what they find, first cause first."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ristune.training.culprit.finding import Finding
from ristune.training.culprit.gradients import backward_findings, sum_findings
from ristune.training.culprit.graph import differentiate
from ristune.training.culprit.inputs import input_findings
from ristune.training.culprit.moment import Case, Moment
from ristune.training.culprit.report import Report
from ristune.training.culprit.trace import trace
from ristune.training.culprit.values import forward_findings
from ristune.training.task import Batch, Task
from ristune.training.tensors import rows_of

_STAGES = ("input", "prepare", "forward", "loss", "backward")


def investigate(
    task: Task, batches: Sequence[Batch], precision: str, device: torch.device, scale: float = 1.0
) -> list[Finding]:
    """Find what makes the loss or a gradient of one training window non-finite.

    The random states are taken as those before the window, the network's weights, too. Random states,
    weights, buffers, gradients and modes are left as found. Of state that a module keeps outside of its
    buffers nothing is known.

    Args:
        task: the task, its network on `device` and in the mode of training.
        batches: the raw columns of each micro-batch of the window, leading dimension B, on `device`.
        precision: `bf16`, `fp16` or `fp32`: the network's autocast.
        device: where the network and the batches lie.
        scale: what the window's loss, a mean over its rows, was multiplied by before backward.

    Returns:
        Causes, first cause first, then oddities that have no effect that is known. Empty if all is finite:
        the fault does not reproduce.
    """
    start = Moment(task.network, device)
    gradients = [(parameter, parameter.grad) for parameter in task.network.parameters()]
    try:
        return _investigate(task, batches, precision, device, scale)
    finally:
        start.restore()
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _investigate(
    task: Task, batches: Sequence[Batch], precision: str, device: torch.device, scale: float
) -> list[Finding]:
    report = Report()
    total: dict[str, Tensor] = {}
    rows = [rows_of(batch) for batch in batches]
    for index, batch in enumerate(batches):
        moment = Moment(task.network, device)
        place = f"micro-batch {index + 1} of {len(batches)}: " if len(batches) > 1 else ""
        case = Case(task, batch, device, moment, precision, scale, rows[index] / sum(rows), place)
        run = trace(case, precision)
        following = Moment(task.network, device)
        forward_findings(case, run, report)
        if not run.refused[0]:
            gradients = differentiate(case, precision, scale * case.share)
            backward_findings(case, gradients, report)
            for name, gradient in gradients.total.items():
                total[name] = total[name] + gradient if name in total else gradient
        following.restore()
    if not report.causes:
        sum_findings(total, scale, report)
    inputs, spectators = input_findings(task, batches, report)
    causes = inputs + sorted(report.causes.values(), key=lambda finding: _STAGES.index(finding.stage))
    oddities = spectators + (list(report.notes.values()) if causes else [])
    return causes + [replace(finding, effect=False) for finding in oddities]
