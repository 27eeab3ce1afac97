"""Whether training and validation, and what is validated and what is saved, are one thing."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ristune.doctor.bench import Bench, tensors
from ristune.doctor.outcome import Outcome, failed, passed, skipped, some
from ristune.training import checkpoint
from ristune.training.forward import forward, prepare
from ristune.training.means import Means
from ristune.training.task import Batch, Prepares, Task
from ristune.training.tensors import rows_of

# Largest difference, relative to the root mean square, that fused kernels for inference may make.
ROUNDING = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 5e-3}


def same_code(bench: Bench) -> Outcome:
    """`prepare` and the network give the same in training and in validation."""
    trial = bench.untrained()
    (batch,) = bench.batches(1)
    learning, measuring = (_prepared(bench, trial.task, batch, training) for training in (True, False))
    wrong = sorted(set(learning) ^ set(measuring))
    wrong += [name for name in learning if name in measuring and not _equal(learning[name], measuring[name])]
    if wrong:
        return failed(
            f"prepare gives other tensors in training than in validation: {some(wrong)}",
            "let prepare depend on the batch alone: not on network.training nor on whether gradients are on; "
            "augmentation belongs into the network",
        )
    found = []
    trial.task.network.eval()
    for grad in (True, False):
        with torch.set_grad_enabled(grad), bench.seeded():
            output, _ = forward(trial.task, batch, trial.trainer.precision, bench.device)
        found.append({name: tensor.detach() for name, tensor in tensors(output).items()})
    difference = max((_difference(found[0][name], found[1][name]) for name in found[0]), default=0.0)
    if not difference <= ROUNDING[trial.trainer.precision]:
        return failed(
            f"the network in eval mode gives another output with gradients on than without, by "
            f"{difference:.2g} of its root mean square",
            "let the network not ask whether gradients are on",
        )
    prepared = "prepare" if isinstance(trial.task, Prepares) else "no prepare"
    exact = "bit-equal" if difference == 0 else f"equal but for rounding ({difference:.1g})"
    return passed(f"{prepared} and network: {exact} with and without gradients")


def saved_loaded(bench: Bench) -> Outcome:
    """The best epoch's checkpoint in a new network gives the metrics that were validated."""
    trained = bench.trained()
    best = [record for record in trained.records if record.improved]
    if not best:
        return skipped("no validation of the short training was finite: nothing was saved")
    # Another seed: what is not in the checkpoint differs.
    trial = bench.fresh({"seed": (bench.config.seed + 1) % 2**32})
    checkpoint.load(trained.best).load_into(trial.task.network)
    trial.task.network.to(bench.device).eval()
    means = Means()
    with torch.no_grad():
        for batch in trial.val.epoch(0):
            output, prepared = forward(trial.task, batch, trial.trainer.precision, bench.device)
            means.add(trial.task.metrics(output, prepared), rows_of(batch))
    return _judge(best[-1].val, means.result())


def _judge(validated: Mapping[str, float], loaded: Mapping[str, float]) -> Outcome:
    # NaN, which a metric may be, equals itself here.
    other = [
        name for name in sorted({*validated, *loaded}) if repr(validated.get(name)) != repr(loaded.get(name))
    ]
    if other:
        return failed(
            some([f"{name} was {validated.get(name)}, is {loaded.get(name)}" for name in other]),
            "what the network uses must be in its state_dict: make such tensors parameters or buffers "
            "(register_buffer), not plain attributes",
        )
    return passed(
        f"{len(loaded)} metrics of a fresh network with the checkpoint's weights, equal to the last bit"
    )


def _prepared(bench: Bench, task: Task, batch: Batch, training: bool) -> Mapping[str, Tensor]:
    task.network.train(training)
    with torch.set_grad_enabled(training), bench.seeded():
        return prepare(task, dict(batch))


def _equal(one: Tensor, other: Tensor) -> bool:
    """Bit by bit, NaN equal to NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    one, other = one.detach().contiguous(), other.detach().contiguous()
    return (
        bool(torch.equal(one.view(torch.uint8), other.view(torch.uint8)))
        if one.numel() and one.ndim
        else bool(torch.equal(one, other))
    )


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if _equal(one, other):
        return 0.0
    wide = torch.complex128 if one.is_complex() else torch.float64
    size = one.to(wide).abs().square().mean().sqrt().item()
    return (one.to(wide) - other.to(wide)).abs().max().item() / (size or 1.0)
