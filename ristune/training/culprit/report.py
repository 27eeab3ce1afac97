"""What is found, each cause once."""

from dataclasses import dataclass, field

from ristune.training.culprit.finding import Finding


def half_fault(precision: str, what: str) -> str:
    """What is wrong where fp32 has no such fault: FP16 lacks range, BF16 only digits."""
    return f"fp16 {what}" if precision == "fp16" else f"{precision} is too coarse"


def half_remedy(precision: str, module: str | None) -> str:
    """What to do where fp32 has no such fault."""
    wider = "bf16 or fp32" if precision == "fp16" else "fp32"
    return f"train in {wider}, or normalise what goes through {module or 'the network'}"


@dataclass
class Report:
    """What was found so far."""

    causes: dict[tuple[object, ...], Finding] = field(default_factory=dict)
    notes: dict[tuple[object, ...], Finding] = field(default_factory=dict)
    reached: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """A cause; once, though several micro-batches have it."""
        key = (finding.stage, finding.term, finding.operation, finding.module, finding.where)
        self.causes.setdefault(key, finding)

    def note(self, finding: Finding) -> None:
        """What is not finite and has no effect that is known."""
        self.notes.setdefault((finding.stage, finding.operation, finding.module, finding.where), finding)

    def reach(self, kind: str, name: str, effect: str) -> None:
        """A column, or a parameter, that was not finite to begin with has an effect."""
        effects = self.reached.setdefault((kind, name), [])
        if effect not in effects:
            effects.append(effect)
