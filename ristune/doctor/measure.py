"""Whether the objective is measured alike in all trials: no searched value, no loss weight enters it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Fault, Outcome, attempt, failed, passed, some
from ristune.doctor.searching import condition, middle, space_of
from ristune.sweep.space import Scalar, Space
from ristune.training.forward import forward, prepare
from ristune.training.task import Batch, Output, Task
from ristune.trial import build_task

# Of the objective and of a term's scale, relative.
EQUAL = 1e-6
PROPORTIONAL = 1e-4


@dataclass(frozen=True)
class Measured:
    """What a task says of one output.

    Attributes:
        shapes: of its network's weights.
        terms: of the loss.
        objective: by sample.
    """

    shapes: Mapping[str, torch.Size]
    terms: Mapping[str, float]
    objective: Tensor


def objective(bench: Bench) -> Outcome:
    """The objective of one output is the same whatever the searched values and the loss weights."""
    space = space_of(bench) or Space({})
    values = {path: value for path, value in middle(space).items() if path.startswith("task.")}
    base = _task(bench, values)
    (batch,) = bench.batches(1, "val")
    base.network.eval()
    with torch.no_grad():
        output, prepared = forward(base, batch, bench.untrained().trainer.precision, bench.device)
    tried, wrong, refused = [], [], []
    searched = {
        p: each.distribution.extremes for p, each in space.parameters.items() if p.startswith("task.")
    }
    pairs = {path: (extremes[0], extremes[-1]) for path, extremes in searched.items()}
    for path, pair in {**dict(_leaves(bench.config.task)), **pairs}.items():
        # What is searched under a condition is measured under it.
        under = condition(space, path) if path in searched else {}
        settings = {**values, **{other: v for other, v in under.items() if other.startswith("task.")}}
        found = [
            attempt(partial(_measure, bench, {**settings, path: v}, batch, output, prepared)) for v in pair
        ]
        one, other = found
        if isinstance(one, Fault) or isinstance(other, Fault):
            refused.append(path)
        elif one.shapes == other.shapes == _shapes(base) and (
            path in searched or _is_weight(one, other, pair)
        ):
            tried.append(path)
            if not _agree(one.objective, other.objective):
                means = f"{one.objective.mean():.4g} at {pair[0]}, {other.objective.mean():.4g} at {pair[1]}"
                wrong.append(f"{path}: {means}")
    name = bench.full.training.objective
    beside = f"; other values refused, so not tried: {some(refused)}" if refused else ""
    if wrong:
        return failed(
            f"{name} of one and the same output: {some(wrong)}{beside}",
            "a search would turn that value instead of learning: measure with fixed settings in `metrics`",
        )
    if not tried:
        return passed(f"no searched value of the task and no loss weight could enter {name}{beside}")
    return passed(f"{name} of one output is the same at two values of {some(tried)}{beside}")


def _task(bench: Bench, values: Mapping[str, Any]) -> Task:
    task = build_task(bench.config.with_values(values), bench.untrained().dataset)
    task.network.to(bench.device)
    return task


def _shapes(task: Task) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in task.network.state_dict().items()}


def _measure(
    bench: Bench, values: Mapping[str, Any], batch: Batch, output: Output, prepared: Batch
) -> Measured:
    task = _task(bench, values)
    # A task may take its constants to the device here.
    prepare(task, dict(batch))
    with torch.no_grad():
        terms = {name: term.item() for name, term in task.loss(output, prepared).items()}
        return Measured(_shapes(task), terms, task.metrics(output, prepared)[bench.full.training.objective])


def _leaves(spec: Mapping[str, Any], prefix: str = "task.") -> Iterator[tuple[str, tuple[Scalar, Scalar]]]:
    """Numbers of the task's configuration, each with another value to try."""
    for name, value in spec.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            # Halved, what lies in [0, 1] stays there.
            half = value // 2 if isinstance(value, int) else value / 2
            yield path, (value, half or type(value)(1))


def _is_weight(one: Measured, other: Measured, pair: tuple[Scalar, Scalar]) -> bool:
    """Whether a value weights a term: it makes it appear, vanish, or scales it as it changes itself."""
    if set(one.terms) != set(other.terms):
        return True
    first, second = (float(value) if isinstance(value, int | float) else 0.0 for value in pair)
    return any(
        abs(value * second - other.terms[name] * first) <= PROPORTIONAL * abs(value * second)
        and value != other.terms[name]
        for name, value in one.terms.items()
    )


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether two measures of the same samples are one but for rounding; NaN equals itself."""
    return torch.allclose(one, other, rtol=EQUAL, atol=EQUAL * one.abs().max().item(), equal_nan=True)
