"""Whether steps are taken, and reach every parameter by every loss term."""

import torch
from torch import Tensor

from ristune.doctor.bench import Bench, Trained, tensors
from ristune.doctor.outcome import Outcome, failed, passed, skipped, some
from ristune.training.forward import total_loss
from ristune.training.record import Record, Status
from ristune.training.task import Task
from ristune.training.tensors import trainable
from ristune.trial import Trial

# Batches that gradients are looked at on.
FEW = 3
# Least movement of the network as a whole, relative to its weights.
MOVED = 1e-5
# Least variance of an output over samples, relative to its mean square.
VARIES = 1e-6


def steps(bench: Bench) -> Outcome:
    """Every window of the short training a step, none skipped."""
    trained = bench.trained()
    last = trained.records[-1]
    counted = f"{last.batches} batches, {last.windows} windows, {last.steps} steps, {last.skipped} skipped"
    if last.status is not Status.COMPLETE:
        return failed(
            f"{counted}; {last.status}: {last.reason}",
            "look for NaN in data and loss, and at optimizer.lr; out of memory, at training.batch_size",
        )
    unsound = sorted({name for record in trained.records for name in record.inputs})
    if unsound:
        return failed(
            f"{counted}; NaN or infinity in the columns {some(unsound)}",
            "leave such rows out where the data are made; `python -m ristune.dataset verify` lists them all",
        )
    # FP16 begins with a scale that may be too large, and finds a better one by skipping.
    allowed = trained.records[-2].skipped if trained.trial.trainer.precision == "fp16" else 0
    if last.skipped > allowed:
        return failed(
            f"{counted}: {last.cause or 'loss or gradient'} was not finite",
            "look at loss-terms below; a NaN gradient comes from sqrt or norm at 0, x / |x|, eigenvectors",
        )
    if not _whole(last, trained.trial):
        return failed(
            f"{counted} of {trained.trial.trainer.total_batches} batches",
            "report it: the trainer counts wrongly",
        )
    return passed(f"{counted}; loss {trained.records[0].train['loss']:.4g} -> {last.train['loss']:.4g}")


def _whole(last: Record, trial: Trial) -> bool:
    """Whether every batch was seen, and was in a window; the last one of an epoch may be short."""
    training = trial.config.training
    least, most = -(-last.batches // training.accumulate), last.batches // training.accumulate
    return (
        0 < last.batches == trial.trainer.total_batches
        and least <= last.windows <= most + training.epochs
        and last.windows == last.steps + last.skipped
    )


def parameters_change(bench: Bench) -> Outcome:
    """Every trainable parameter another one after the short training."""
    trained = bench.trained()
    if not trained.before:
        return failed(
            "the network has no trainable parameter", "set requires_grad, or make them nn.Parameter"
        )
    same = [name for name, value in trained.parameters.items() if torch.equal(value, trained.before[name])]
    moved = _moved(trained)
    took = f"{trained.records[-1].steps} steps moved the network by {moved:.2g} of its norm"
    if same:
        return failed(
            f"{len(same)} of {len(trained.before)} parameters are what they were: {some(same)}; {took}",
            "no gradient reaches them (a detach, a branch that is not used): mend that, or set "
            "requires_grad=False",
        )
    if not moved >= MOVED:
        return failed(f"{took}, less than {MOVED:g}", "raise optimizer.lr")
    return passed(f"all {len(trained.before)}; {took}")


def gradients(bench: Bench) -> Outcome:
    """A gradient, finite and not zero, at every trainable parameter."""
    trained = bench.trained()
    network = trained.trial.task.network
    parameters = trained.parameters
    largest = dict.fromkeys(parameters, 0.0)
    bad = set()
    network.train()
    with bench.seeded():
        for batch in bench.batches(FEW):
            network.zero_grad(set_to_none=True)
            output, prepared = bench.forward(trained.trial.task, batch)
            torch.autograd.backward(total_loss(trained.trial.task.loss(output, prepared)))
            for name, parameter in parameters.items():
                if parameter.grad is None:
                    continue
                if not bool(parameter.grad.isfinite().all()):
                    bad.add(name)
                else:
                    largest[name] = max(largest[name], parameter.grad.abs().max().item())
    network.zero_grad(set_to_none=True)
    if bad:
        return failed(
            f"not finite at {len(bad)} of {len(parameters)} parameters: {some(sorted(bad))}",
            "look at loss-terms: it names the term",
        )
    dead = [name for name, value in largest.items() if value == 0]
    if dead:
        count, every = (sum(parameters[n].numel() for n in names) for names in (dead, list(parameters)))
        return failed(
            f"none at {len(dead)} of {len(parameters)} parameters, {count / every:.0%} of the weights: "
            f"{some(dead)}",
            "connect them to the output, take them out, or set requires_grad=False",
        )
    if not largest:
        return failed("the network has no trainable parameter", "make its weights nn.Parameter")
    least = min(largest, key=lambda name: largest[name])
    return passed(
        f"finite at all {len(largest)}; the least largest entry is {largest[least]:.2g}, of {least}"
    )


def loss_terms(bench: Bench) -> Outcome:
    """Every term not always zero, with a finite gradient of its own that reaches a parameter."""
    values: dict[str, float] = {}
    faults: dict[str, str] = {}
    for trial in (bench.untrained(), bench.trained().trial):
        trial.task.network.train()
        with bench.seeded():
            for batch in bench.batches(FEW):
                output, prepared = bench.forward(trial.task, batch)
                for name, term in trial.task.loss(output, prepared).items():
                    values[name] = max(values.get(name, 0.0), abs(term.item()), key=_nan_first)
                    fault = _fault(term, trial.task)
                    if fault:
                        faults.setdefault(name, fault)
    if not values:
        return failed("the loss has no term", 'return {"name": loss}')
    zero = [name for name, value in values.items() if value == 0]
    faults.update({name: "it is 0 on every batch" for name in zero if name not in faults})
    if faults:
        return failed(
            some([f"{name}: {fault}" for name, fault in faults.items()]),
            "mend the term, or set its weight to 0: what is not learned from must not be weighted",
        )
    return passed("largest values " + ", ".join(f"{name} {value:.3g}" for name, value in values.items()))


def predictions_vary(bench: Bench) -> Outcome:
    """Outputs of the validation samples not all the same after the short training."""
    trained = bench.trained()
    network = trained.trial.task.network
    network.eval()
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for batch in trained.trial.val.epoch(0):
            for name, tensor in tensors(bench.forward(trained.trial.task, batch)[0]).items():
                real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
                if real.is_floating_point():
                    parts.setdefault(name, []).append(real.flatten(1) if real.ndim > 1 else real[:, None])
    spread = {name: _spread(torch.cat(values).double()) for name, values in parts.items()}
    if not spread:
        return skipped("the network's output holds no number")
    found = ", ".join(f"{name} {value:.2g}" for name, value in spread.items())
    count = f"over {trained.trial.val.rows} validation samples"
    # Not `<`: what is not finite fails as well.
    low = [name for name, value in spread.items() if not value >= VARIES]
    if low:
        return failed(
            f"variance {count} relative to the mean square: {found}; at least {VARIES:g} is required",
            "the network says the same of every sample: look at its inputs, their scale, dead activations, "
            "and optimizer.lr",
        )
    return passed(f"variance {count} relative to the mean square: {found}")


def _moved(trained: Trained) -> float:
    """Distance between the parameters before and after, relative to the norm before."""
    moved, norm = 0.0, 0.0
    for name, value in trained.parameters.items():
        before = trained.before[name].double()
        moved += (value.detach().double() - before).square().sum().item()
        norm += before.square().sum().item()
    return float((moved / norm) ** 0.5) if norm else float(moved > 0)


def _fault(term: Tensor, task: Task) -> str:
    """What is wrong with one term on one batch, by itself."""
    if not bool(term.isfinite()):
        return f"its value is {term.item()}"
    if not term.requires_grad:
        return f"it is a constant, {term.item():.3g}, without a gradient"
    parameters = list(trainable(task.network).values())
    found = [
        g
        for g in torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        if g is not None
    ]
    if not found:
        return "its gradient reaches no parameter"
    if not all(bool(g.isfinite().all()) for g in found):
        return "its gradient is not finite"
    return ""


def _nan_first(value: float) -> float:
    """A key by which NaN is the largest."""
    return value if value == value else float("inf")


def _spread(values: Tensor) -> float:
    """Variance over samples relative to the mean square, [B, D]; 0 where all is 0."""
    square = values.square().mean().item()
    return values.var(dim=0, unbiased=False).mean().item() / square if square else 0.0
