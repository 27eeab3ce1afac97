"""A window that was not finite, run again from what its training wrote down, and its cause named."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ristune.config import restore
from ristune.data.opening import open_configured
from ristune.errors import InputError
from ristune.training import checkpoint, dump
from ristune.training.culprit import Finding, investigate
from ristune.training.device import configure_process, resolve_device
from ristune.trial import task_at


@dataclass(frozen=True)
class Replay:
    """What was found of one window.

    Attributes:
        epoch: of the training, from 1.
        window: since its start, from 1.
        cause: what the training said of it.
        precision: of the network's autocast.
        scale: of the gradient scaler; 1 without one.
        findings: causes, the first one first.
    """

    epoch: int
    window: int
    cause: str
    precision: str
    scale: float
    findings: Sequence[Finding]

    @property
    def reproduced(self) -> bool:
        """Whether something was found that a loss term or gradient feels."""
        return any(finding.effect for finding in self.findings)


def replay(directory: Path, overrides: Sequence[str], report: Callable[[str], None]) -> Replay:
    """Run a window again and name what made it not finite.

    Args:
        directory: what a training wrote, `diverged` in its folder.
        overrides: where the dataset is now, or on which device, if it is another way.
        report: told of long work, in a line each.

    Raises:
        InputError: if there is no such dump, or its dataset is gone.
    """
    saved = checkpoint.load(directory)
    if "failure" not in saved.state:
        rule = "it must be what a training wrote of a window that was not finite"
        raise InputError("--replay", str(directory), rule, f"give the folder {dump.FOLDER!r} of a training")
    failure = saved.state["failure"]
    config = restore(saved.state["source"], overrides, saved.state["config_dirs"])
    device = resolve_device(config.training.device)
    configure_process(config.training)
    task = task_at(config, open_configured(config.data, report), failure["epoch"])
    saved.load_into(task.network)
    task.network.to(device).train()
    batches, random = dump.read_window(saved)
    there = [{name: column.to(device) for name, column in batch.items()} for batch in batches]
    random.restore(device)
    findings = investigate(task, there, failure["precision"], device, failure["scale"])
    return Replay(findings=findings, **failure)


def describe(replayed: Replay) -> Iterator[str]:
    """What was found, in lines."""
    scale = f", gradients scaled by {replayed.scale:g}" if replayed.scale != 1 else ""
    where = f"window {replayed.window}, in epoch {replayed.epoch}, {replayed.precision}{scale}"
    yield f"{where}: {replayed.cause}"
    for number, finding in enumerate(replayed.findings, start=1):
        term = f"loss term {finding.term!r}" if finding.term is not None else ""
        operation = f"operation {finding.operation}" if finding.operation else ""
        module = f"module {finding.module}" if finding.module else ""
        yield ""
        yield f"{number}. {finding.stage}: " + ", ".join(filter(None, [term, operation, module]))
        if finding.parameters:
            yield f"   parameters: {', '.join(finding.parameters)}"
        if finding.where:
            yield f"   at {finding.where}"
        yield f"   {finding.detail}"
        yield f"   -> {finding.remedy}"
    if not replayed.reproduced:
        yield ""
        yield (
            "it does not reproduce: every loss term and gradient is finite here. Another device or version "
            "of torch rounds otherwise; the window may have been at the edge of what its precision holds."
        )
