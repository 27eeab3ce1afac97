"""What batches cost a training in each mode of the data layer: in memory of the host, or of the GPU.

    python -m benchmarks.training.modes [--tasks nearfield toy] [--modes gpu cached] [PATH=VALUE ...]

For each mode: samples/s of shuffled epochs that do nothing but make batches on the training's device, and of
epochs that train on them, with the share of a training epoch that its host spends on asking for batches.
Modes take turns, epoch by epoch; the first round is not timed. Epochs of training have no validation in them.
All modes give the same batches in the same order, so the objectives at the end are printed to show that they
did the same work. Run it where the repository is.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.training.overhead import CONFIGS, TASKS, describe, ready
from ristune import cli
from ristune.config import Config, compose
from ristune.simulate import ensure_dataset
from ristune.trial import Trial


class Watched:
    """A trial whose stream is watched: the time of an epoch, and of it what is spent in the stream."""

    def __init__(self, config: Config) -> None:
        self.trial = ready(config)
        self.asking = self.training = 0.0
        self._batches_of = self.trial.train.epoch
        # On the instance: the trainer holds this very stream.
        vars(self.trial.train)["epoch"] = self._epoch
        self._records = self.trial.trainer.fit()

    def loaded(self, n: int) -> float:
        """Seconds of an epoch that makes its batches and leaves them."""
        started = settled(self.trial)
        for _ in self._batches_of(n):
            pass
        return settled(self.trial) - started

    def trained(self) -> float:
        """Train for an epoch; the objective on validation after it."""
        return next(self._records).objective

    def _epoch(self, n: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        started, self.asking = settled(self.trial), 0.0
        batches = self._batches_of(n, start)
        try:
            while True:
                asked = time.perf_counter()
                batch = next(batches, None)
                self.asking += time.perf_counter() - asked
                if batch is None:
                    return
                yield batch
        finally:
            # Also where the trainer, which has counted, does not ask for a batch after the last.
            self.training = settled(self.trial) - started


def settled(trial: Trial) -> float:
    """The clock, once the device has done what it was given."""
    if trial.train.device.type == "cuda":
        torch.cuda.synchronize(trial.train.device)
    return time.perf_counter()


def compare(configs: dict[str, Config], rounds: int) -> None:
    """Time the modes in turns, and print a line for each."""
    trials = {mode: Watched(config) for mode, config in configs.items()}
    alone: dict[str, list[float]] = {mode: [] for mode in trials}
    steps: dict[str, list[float]] = {mode: [] for mode in trials}
    shares: dict[str, list[float]] = {mode: [] for mode in trials}
    ends: dict[str, float] = {}
    for number in range(rounds + 1):
        for mode in list(trials)[:: -1 if number % 2 else 1]:
            one, rows = trials[mode], trials[mode].trial.train.rows
            seconds = one.loaded(number + 1)
            ends[mode] = one.trained()
            if number:
                alone[mode].append(rows / seconds)
                steps[mode].append(rows / one.training)
                shares[mode].append(one.asking / one.training)
    for mode in trials:
        lone, train, share = (statistics.median(values[mode]) for values in (alone, steps, shares))
        least, most = min(alone[mode]), max(alone[mode])
        print(
            f"  {mode}: batches alone {lone:,.0f} samples/s ({least:,.0f} .. {most:,.0f}), "
            f"training {train:,.0f} ({min(steps[mode]):,.0f} .. {max(steps[mode]):,.0f}), of an epoch "
            f"{share:.1%} asking for batches; objective at the end {ends[mode]:.9g}",
            flush=True,
        )


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.modes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: both")
    parser.add_argument(
        "--modes", nargs="+", choices=["gpu", "cached", "windowed"], default=["gpu", "cached"]
    )
    parser.add_argument("--rounds", type=cli.at_least_one, default=5, metavar="N", help="default: 5")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="of the configuration")
    arguments = parser.parse_intermixed_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.tasks:
            places = [f"data.uri={folder}/{name}", f"data.cache={folder}/cache"]
            asked = [*TASKS[name], *places, f"training.epochs={arguments.rounds + 1}", *arguments.overrides]
            configs = {mode: compose([*asked, f"data.mode={mode}"], [CONFIGS]) for mode in arguments.modes}
            ensure_dataset(next(iter(configs.values())), cli.console())
            for mode, config in configs.items():
                print(f"{mode}: {describe(name, ready(config))}", flush=True)
            compare(configs, arguments.rounds)
    return cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(_main))
