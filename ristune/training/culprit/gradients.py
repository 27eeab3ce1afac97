"""Causes of a gradient that is not finite while the loss is."""

import math

import torch
from torch import Tensor

from ristune.training.culprit.finding import Finding, LinAlgError, checkable, is_finite
from ristune.training.culprit.graph import Culprit, Gradients, differentiate
from ristune.training.culprit.moment import Case
from ristune.training.culprit.report import Report, half_fault, half_remedy


def backward_findings(case: Case, gradients: Gradients, report: Report) -> None:
    """Report the node, term and parameters of each bad gradient.

    Args:
        case: the micro-batch.
        gradients: its gradients in the precision, and at the scale, of the training.
        report: where findings go.
    """
    for term, parameters in gradients.bad.items():
        culprit = gradients.culprits[term]
        detail = case.place if term else f"{case.place}each term's gradient is finite, but not their sum's: "
        detail += culprit.detail if culprit else "no node makes it: a parameter's own hook or sum does"
        verdict, remedy = _verdict(case, term, culprit)
        report.add(
            Finding(
                stage="backward",
                term=term,
                operation=culprit.node if culprit else None,
                module=culprit.module if culprit else None,
                parameters=parameters,
                where=culprit.where if culprit else None,
                detail=detail + verdict,
                remedy=remedy,
            )
        )
        _blame_columns(case, term, report)


def sum_findings(total: dict[str, Tensor], scale: float, report: Report) -> None:
    """Report overflows that only the whole window has: of the sum over micro-batches, or of the norm.

    Args:
        total: gradients of the window by parameter, multiplied by the scale.
        scale: the scale.
        report: where findings go.
    """
    bad = tuple(name for name, gradient in total.items() if not is_finite(gradient))
    if bad:
        detail = "each micro-batch's gradient is finite, but not their sum"
        remedy = "scale the loss down, or accumulate fewer micro-batches"
        report.add(Finding("backward", None, "sum", None, bad, None, detail, remedy))
        return
    norms = {name: float(torch.linalg.vector_norm(gradient / scale)) for name, gradient in total.items()}
    if norms and not math.isfinite(float(torch.linalg.vector_norm(torch.tensor(list(norms.values()))))):
        largest = max(total, key=lambda name: float(total[name].abs().max()))
        value = float(total[largest].abs().max()) / scale
        detail = (
            f"every gradient is finite, but their norm overflows; the largest is {value:.2g} in {largest}"
        )
        remedy = "scale the loss down, or look for what makes gradients this large"
        report.add(Finding("backward", None, "norm", None, (), None, detail, remedy))


def _verdict(case: Case, term: str | None, culprit: Culprit | None) -> tuple[str, str]:
    """Whether the precision, or the scale, is to blame for a gradient: how to say so, and the remedy."""
    own = culprit.remedy if culprit else "look at the hooks on tensors and parameters"
    module = culprit.module if culprit else None
    if case.precision == "fp32" and case.scale == 1:
        return "", own
    if _is_bad(case, term, "fp32", 1.0):
        return "; not finite in fp32 at scale 1 either", own
    if case.precision == "fp32":
        return f"; finite at scale 1, so scale {case.scale:g} is too large", "lower the scale"
    if case.scale == 1:
        verdict = f"; finite in fp32: {half_fault(case.precision, 'gradient overflow')}"
        return verdict, half_remedy(case.precision, module)
    verdict = f"; finite in fp32: {half_fault(case.precision, 'gradient overflow')} at scale {case.scale:g}, "
    if _is_bad(case, term, case.precision, 1.0):
        verdict += f"not finite in {case.precision} at scale 1 either"
        return verdict, half_remedy(case.precision, module)
    verdict += f"finite in {case.precision} at scale 1"
    return verdict, "let the scaler lower its scale: a skip now and then is its work; or use bf16 or fp32"


def _is_bad(case: Case, term: str | None, precision: str, scale: float) -> bool:
    try:
        gradients = differentiate(case, precision, scale * case.share, None if term is None else {term})
    except LinAlgError:
        return True
    return bool(gradients.bad or gradients.lost)


def _blame_columns(case: Case, term: str | None, report: Report) -> None:
    """Hold columns to account for a bad gradient if it is finite without their non-finite values."""
    for name, column in case.batch.items():
        if checkable(column) and not is_finite(column):
            if not _is_bad(case.cleaned([name]), term, case.precision, case.scale):
                of = f" of {term!r}" if term else ""
                report.reach(
                    "column", name, f"the gradient{of}, which is finite once finite rows are in their place"
                )
