"""Whether the loss is minimal where a prediction is exactly right."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ristune.doctor.bench import Bench, tensors
from ristune.doctor.outcome import Outcome, failed, passed, skipped, some
from ristune.training.forward import full_precision
from ristune.training.task import Batch, KnowsTruth, Output, Task
from ristune.training.tensors import inexact

# Steps away from the truth, relative to the size of an untrained output.
SCALES = (1e-3, 1e-2, 1e-1, 1.0)
# Random directions tried at each.
DIRECTIONS = 4
# How far a term may sink below its value at the truth, relative to its value at an untrained output.
TOLERANCE = 1e-3


def truth(bench: Bench) -> Outcome:
    """No term lower near the exactly right output than there."""
    trial = bench.untrained()
    task = trial.task
    if not isinstance(task, KnowsTruth):
        return skipped(f"{type(task).__name__} has no hook truth(batch): nobody knows which output is right")
    (batch,) = bench.batches(1)
    task.network.eval()
    with torch.no_grad():
        free, prepared = bench.forward(task, batch)
        untrained = {name: abs(term.item()) for name, term in task.loss(free, prepared).items()}
    reach = {name: _rms(tensor) for name, tensor in tensors(free).items()}
    output, prepared = task.truth(batch)
    right = {name: full_precision(tensor).detach() for name, tensor in tensors(output).items()}
    prepared = {name: full_precision(tensor) for name, tensor in prepared.items()}
    lone = not isinstance(output, Mapping)
    at = {name: term.item() for name, term in _loss(task, right, prepared, lone).items()}
    faults = []
    for name, value in at.items():
        slope = _slope(task, name, right, prepared, lone)
        if not all(bool(tensor.isfinite().all()) for tensor in slope.values()):
            faults.append(f"{name}: its gradient is not finite at the truth")
            continue
        lowest = min(
            _loss(task, there, prepared, lone)[name].item() for there in _around(right, slope, reach)
        )
        # Not `<`: a value that is not finite fails as well.
        if not lowest >= value - TOLERANCE * untrained.get(name, 1.0):
            faults.append(f"{name}: {value:.3g} at the truth, {lowest:.3g} beside it")
    figures = ", ".join(
        f"{name} {value:.2g} (untrained {untrained.get(name, 0):.2g})" for name, value in at.items()
    )
    if faults:
        return failed(
            f"{some(faults)}; at the truth: {figures}",
            "training would move away from the right answer: compare what the loss and the labels mean "
            "(units, sign, order, conjugation, offsets)",
        )
    return passed(f"at the truth {figures}, nowhere lower around it")


def _loss(task: Task, output: Mapping[str, Tensor], prepared: Batch, lone: bool) -> Mapping[str, Tensor]:
    whole: Output = output["output"] if lone else output
    return task.loss(whole, prepared)


def _slope(
    task: Task, name: str, right: Mapping[str, Tensor], prepared: Batch, lone: bool
) -> dict[str, Tensor]:
    """The gradient of a term with respect to the output."""
    leaves = {key: tensor.clone().requires_grad_(inexact(tensor)) for key, tensor in right.items()}
    asked = {key: leaf for key, leaf in leaves.items() if leaf.requires_grad}
    term = _loss(task, leaves, prepared, lone)[name]
    if not term.requires_grad:
        return {}
    found = torch.autograd.grad(term, list(asked.values()), allow_unused=True)
    return {key: g for key, g in zip(asked, found, strict=True) if g is not None}


def _around(
    right: Mapping[str, Tensor], slope: Mapping[str, Tensor], reach: Mapping[str, float]
) -> list[dict[str, Tensor]]:
    """Outputs near the right one: down the slope, and in random directions."""
    generator = torch.Generator().manual_seed(0)
    places = []
    for scale in SCALES:
        down = {key: -g / _rms(g) for key, g in slope.items() if bool(g.any())}
        random = [
            {
                key: torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
                for key, tensor in right.items()
                if inexact(tensor)
            }
            for _ in range(DIRECTIONS)
        ]
        for way in (down, *random):
            moved = {key: scale * reach.get(key, 1.0) * change for key, change in way.items()}
            places.append(
                {key: tensor + moved[key] if key in moved else tensor for key, tensor in right.items()}
            )
    return places


def _rms(tensor: Tensor) -> float:
    """Root mean square, 1 where all is 0: what a step is measured by."""
    if not inexact(tensor):
        return 1.0
    return tensor.abs().double().square().mean().sqrt().item() or 1.0
