"""What the trainer costs beside a bare loop of the same network, loss, optimizer and data.

    python -m benchmarks.training.overhead [--tasks nearfield toy] [--epochs 4] [--rounds 5] [PATH=VALUE ...]

Both start from the same configuration and seed, and take the same batches from memory. The bare loop is what
one writes by hand: it guards nothing, records nothing, and reads nothing back from the device before an
epoch's validation is over (but for what torch's own gradient scaler reads in FP16). They run in turns, epoch
by epoch, so that a machine that grows slower does so for both; who goes first changes with the round. The
first epoch of each is not timed, validation is part of the time. The ratio is of seconds: 1.05 says that the
trainer takes 5 % longer. Where the quartiles of the pairs are far apart the machine was not quiet, and the
ratio says little. The objective at the end is printed to show that both did the same work.

`--syncs` counts instead, on a GPU, what makes the host wait for the device in the training part of the second
epoch. An `aten::item` of a number that lies on the host, such as an optimizer's count of steps, waits for
nothing; the bare loop shows how many those are. `toy` is a network of so little work that all that is left is
overhead. Run it where the repository is.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.profiler import ProfilerActivity, profile

from ristune import cli
from ristune.config import Config, compose
from ristune.simulate import ensure_dataset
from ristune.training.forward import forward, total_loss
from ristune.trial import Trial, prepare

CONFIGS = Path(__file__).parents[2] / "tests" / "configs"
TASKS = {
    "nearfield": ["simulator.train=2048", "simulator.val=256", "simulator.test=256"],
    "toy": ["task=toy", "space=toy", "simulator.train=65536", "simulator.val=1024", "simulator.test=64"],
}
# The epoch whose waits are counted: the first one tunes kernels and fills pools of memory.
PROFILED = 2
WAITS = (
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "Memcpy DtoH",
    "aten::item",
    "aten::_local_scalar_dense",
)


def optimizer_of(trial: Trial) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """The very optimizer that the trainer would use, untouched yet, under a plain schedule."""
    asked, total = trial.config.optimizer, trial.config.training.epochs * len(trial.train)
    rise = max(1, round(asked.warmup * total))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        share = min(1.0, (step - rise) / max(1, total - rise))
        return asked.final_lr + (1 - asked.final_lr) * 0.5 * (1 + math.cos(math.pi * share))

    return trial.trainer.optimizer, LambdaLR(trial.trainer.optimizer, factor)


def bare(trial: Trial) -> Iterator[Mapping[str, float]]:
    """Train by hand; after each epoch the means of the metrics on the validation split."""
    task, network = trial.task, trial.task.network
    device, precision = trial.train.device, trial.trainer.precision
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer, schedule = optimizer_of(trial)
    # Passes everything through but in FP16.
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    for epoch in range(1, trial.config.training.epochs + 1):
        network.train()
        for batch in trial.train.epoch(epoch):
            output, prepared = forward(task, batch, precision, device)
            loss = total_loss(task.loss(output, prepared))
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, trial.config.training.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
        network.eval()
        sums: dict[str, Tensor] = {}
        with torch.no_grad():
            for batch in trial.val.epoch(0):
                output, prepared = forward(task, batch, precision, device)
                for name, values in task.metrics(output, prepared).items():
                    total = values.double().sum()
                    sums[name] = sums[name] + total if name in sums else total
        yield {name: total.item() / trial.val.rows for name, total in sums.items()}


def trained(trial: Trial) -> Iterator[Mapping[str, float]]:
    """Train as ristune does; after each epoch the same means."""
    for record in trial.trainer.fit():
        if record.reason:
            raise RuntimeError(f"the training diverged, so there is nothing to compare: {record.reason}")
        yield record.val


LOOPS = {"bare": bare, "trainer": trained}


def ready(config: Config) -> Trial:
    """A trial that has not started, whatever was drawn in this process before."""
    trial = prepare(config, lambda line: None)
    torch.manual_seed(config.seed)
    return trial


def side_by_side(config: Config, swapped: bool) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each epoch but the first by loop, and the objective on validation after the last.

    Args:
        config: of both.
        swapped: whether the trainer goes first.
    """
    names = list(LOOPS)[:: -1 if swapped else 1]
    loops = {name: LOOPS[name](ready(config)) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    ends: dict[str, float] = {}
    for _ in range(config.training.epochs):
        for name, epochs in loops.items():
            started = time.perf_counter()
            # The means are read from the device, so that it has finished.
            ends[name] = next(epochs)[config.training.objective]
            seconds[name].append(time.perf_counter() - started)
    return {name: taken[1:] for name, taken in seconds.items()}, ends


def compare(config: Config, rounds: int) -> None:
    """Time both loops in turns, epoch by epoch, and print what came of it."""
    ratios: list[float] = []
    totals = dict.fromkeys(LOOPS, 0.0)
    for number in range(1, rounds + 1):
        seconds, ends = side_by_side(config, swapped=number % 2 == 0)
        ratios += [ours / plain for ours, plain in zip(seconds["trainer"], seconds["bare"], strict=True)]
        line = ", ".join(f"{name} {sum(taken):.3f} s" for name, taken in sorted(seconds.items()))
        ratio = sum(seconds["trainer"]) / sum(seconds["bare"])
        print(f"  round {number}: {line}, ratio {ratio:.3f}", flush=True)
        for name, taken in seconds.items():
            totals[name] += sum(taken)
    steps = rounds * (config.training.epochs - 1) * len(ready(config).train)
    rates = ", ".join(f"{name} {steps / total:.1f} steps/s" for name, total in totals.items())
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"  median ratio of {len(ratios)} pairs of epochs {middle:.3f} (quartiles {low:.3f}, {high:.3f}), "
        f"of sums {totals['trainer'] / totals['bare']:.3f}; {rates}"
    )
    figures = ", ".join(f"{name} {value:.9g}" for name, value in ends.items())
    apart = abs(ends["trainer"] - ends["bare"]) / abs(ends["bare"])
    print(f"  {config.training.objective} after the last epoch: {figures}, apart by a share of {apart:.1e}")


def waits(config: Config, name: str) -> tuple[Counter[str], int]:
    """What a profiler saw of `WAITS` in the training part of one epoch, and the windows of it."""
    trial = ready(config)
    profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
    batches_of = trial.train.epoch

    def watched(n: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        # A window ends when the next batch is asked for: the last one's is in, validation is not.
        with profiler if n == PROFILED else nullcontext():
            yield from batches_of(n, start)

    # On the instance: the loop under test holds this very stream.
    vars(trial.train)["epoch"] = watched
    for _ in LOOPS[name](trial):
        pass
    found: Counter[str] = Counter()
    for event in profiler.key_averages():
        for wait in WAITS:
            # A copy's name goes on with the kinds of memory.
            if event.key == wait or (wait.startswith("Memcpy") and event.key.startswith(wait)):
                found[wait] += event.count
    return found, len(trial.train)


def count(config: Config) -> None:
    """Print the waits of both loops, in all and for each window."""
    for name in LOOPS:
        found, windows = waits(config, name)
        figures = ", ".join(f"{wait} {found[wait]} ({found[wait] / windows:.2f})" for wait in WAITS)
        print(f"  {name}, {windows} windows, in all (for each window): {figures}", flush=True)


def describe(name: str, trial: Trial) -> str:
    parameters = sum(p.numel() for p in trial.task.network.parameters())
    device = trial.train.device
    where = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    return (
        f"{name}: {parameters:,} parameters, {device} ({where}), {trial.trainer.precision}, "
        f"{trial.config.training.epochs} epochs of {len(trial.train)} steps and {len(trial.val)} validation "
        f"batches of {trial.config.training.batch_size}, data {trial.train.mode}"
    )


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: both")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: auto")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp16", "fp32"], default="auto")
    parser.add_argument("--epochs", type=cli.at_least_one, default=4, metavar="N", help="default: 4")
    parser.add_argument("--rounds", type=cli.at_least_one, default=5, metavar="N", help="default: 5")
    parser.add_argument("--syncs", action="store_true", help="count waits for the device; needs a GPU")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="of the configuration")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU; take cpu, or install a driver")
    gpu = arguments.device != "cpu" and torch.cuda.is_available()
    if arguments.syncs and not gpu:
        parser.error("--syncs: on a CPU no host waits for a device; run it where torch sees a GPU")
    asked = [
        f"training.device={arguments.device}",
        f"training.precision={arguments.precision}",
        f"training.epochs={arguments.epochs}",
        f"data.mode={'gpu' if gpu else 'cached'}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.tasks:
            places = [f"data.uri={folder}/{name}", f"data.cache={folder}/cache"]
            config = compose([*TASKS[name], *places, *asked, *arguments.overrides], [CONFIGS])
            if config.training.epochs < 3:
                parser.error(f"--epochs {config.training.epochs}: at least 3, for the first is not timed")
            ensure_dataset(config, cli.console())
            print(describe(name, ready(config)), flush=True)
            if arguments.syncs:
                count(config)
            else:
                compare(config, arguments.rounds)
    return cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(_main))
