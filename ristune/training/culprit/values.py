"""Causes of a loss that is not finite."""

import torch

from ristune.training.culprit.finding import Finding, fails_near_zero, is_finite, remedy_of
from ristune.training.culprit.moment import Case
from ristune.training.culprit.report import Report, half_fault, half_remedy
from ristune.training.culprit.trace import Origin, Origins, Pass, trace

# Trials of which of several faults is the cause, a pass each.
_TRIALS = 8


def forward_findings(case: Case, run: Pass, report: Report) -> None:
    """Report what made loss terms non-finite, and note what else is not finite.

    Args:
        case: the micro-batch.
        run: its pass in the precision of the training.
        report: where findings go.
    """
    if run.refused[0]:
        _refusal(case, run, report)
        return
    blamed: dict[Origin, list[str]] = {}
    for term, origins in run.made.items():
        for origin in origins:
            if origin.kind in ("column", "parameter"):
                report.reach(origin.kind, origin.name, f"loss term {term!r}")
        chosen = _choose(case, term, origins)
        if chosen is not None:
            blamed.setdefault(chosen, []).append(term)
        elif not origins:
            value = run.terms[term].item()
            detail = f"{case.place}the term is {value}, and no operation that torch shows made it so"
            remedy = "look for compiled or foreign code that it goes through, and run without it"
            report.add(Finding("loss", term, None, None, (), None, detail, remedy))
    exact = trace(case, "fp32") if blamed and case.precision != "fp32" else run
    for origin, terms in blamed.items():
        values = {term: run.terms[term].item() for term in terms}
        _blame(case, origin, values, any(exact.origins(term) is not None for term in terms), report)
    if not run.made:
        _overflow_of_sum(case, run, report)
    _note_harmless(case, run, report)


def _refusal(case: Case, run: Pass, report: Report) -> None:
    told, origins = run.refused
    for origin in origins:
        if origin.kind in ("column", "parameter"):
            report.reach(origin.kind, origin.name, told)
    chosen = _choose(case, "", origins)
    if chosen is not None:
        remedy = remedy_of(chosen.name)
        detail = f"{case.place}{chosen.detail}"
        detail += "" if told.startswith(chosen.name) else f"; it reaches {told}"
        name, module, where = chosen.name, chosen.module, chosen.where
        report.add(Finding(chosen.stage, None, name, module, (), where, detail, remedy))


def _overflow_of_sum(case: Case, run: Pass, report: Report) -> None:
    loss = torch.stack(list(run.terms.values())).sum()
    if not is_finite(loss):
        values = ", ".join(f"{name!r} {term.item():.2g}" for name, term in run.terms.items())
        detail = f"{case.place}each loss term is finite ({values}), but their sum is {loss.item()}"
        report.add(Finding("loss", None, "sum", None, (), None, detail, "scale the loss terms down"))


def _note_harmless(case: Case, run: Pass, report: Report) -> None:
    """Note faults that no term's value shows: a mask hides them, but perhaps not from the gradient."""
    known = [(f"prepare's {name!r}", origins) for name, origins in run.prepared.items()]
    guilty = {origin for origins in run.made.values() for origin in origins}
    for what, origins in [*known, ("the network's output", run.output)]:
        own = sorted((o for o in origins - guilty if o.kind == "fault"), key=lambda origin: origin.order)
        for origin in own[:1]:
            detail = f"{case.place}{origin.detail}; it reaches {what}, though no loss term's value shows it"
            remedy = remedy_of(origin.name)
            report.note(
                Finding(origin.stage, None, origin.name, origin.module, (), origin.where, detail, remedy)
            )


def _choose(case: Case, term: str, origins: Origins) -> Origin | None:
    """The origin to blame for a term: the first fault whose mending alone mends the term.

    None if what was given to the pass explains the term.
    """
    if any(origin.kind == "parameter" for origin in origins):
        return None
    if columns := {origin.name for origin in origins if origin.kind == "column"}:
        clean = case.cleaned(columns)
        left = trace(clean, case.precision).origins(term)
        return _choose(clean, term, left) if left is not None else None
    ordered = sorted(origins, key=lambda origin: origin.order)
    faults = [origin for origin in ordered if origin.kind == "fault"]
    for origin in faults[:_TRIALS] if len(faults) > 1 else ():
        if trace(case, case.precision, {origin.order}).origins(term) is None:
            return origin
    return next(iter(faults or ordered), None)


def _blame(case: Case, origin: Origin, values: dict[str, float], in_fp32: bool, report: Report) -> None:
    """Report what made some terms non-finite.

    Args:
        case: the micro-batch.
        origin: what made them so.
        values: the terms' values.
        in_fp32: whether they are so in FP32, too.
        report: where findings go.
    """
    detail = f"{case.place}{origin.detail}"
    remedy = remedy_of(origin.name)
    if case.precision != "fp32" and in_fp32:
        detail += "; not finite in fp32 either"
    elif case.precision != "fp32":
        way = half_fault(case.precision, "underflow" if fails_near_zero(origin.name) else "overflow")
        detail += f"; the same pass in fp32 is finite: {way}"
        remedy = half_remedy(case.precision, origin.module)
    stage, name, module, where = origin.stage, origin.name, origin.module, origin.where
    if stage == "loss":
        for term, value in values.items():
            told = f"{detail}; the term is {value}"
            report.add(Finding(stage, term, name, module, (), where, told, remedy))
    else:
        reached = " and ".join(f"the loss term {term!r} {value}" for term, value in values.items())
        told = f"{detail}; it makes {reached}"
        report.add(Finding(stage, None, name, module, (), where, told, remedy))
