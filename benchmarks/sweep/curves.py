"""Learning curves of the near field's wide space, recorded once; stopping rules are replayed on them.

    python -m benchmarks.sweep.curves --out FILE [--configurations 48] [--processes P] [PATH=VALUE ...]
    python -m benchmarks.sweep.rules FILE

Configurations are drawn at random from the space and trained to their end, `--processes` of them at a time,
each on one thread, or all on one GPU. A training that ends is appended to FILE, a JSON object a line: its
values, how it ended, the objective's metric by epoch (null where not finite) and the seconds of each epoch,
by the wall. The costly ones come first; the same command goes on where it was stopped, and only a file that
has all of them is a fair draw. Run it where the repository is.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import optuna
import torch

from ristune import cli
from ristune.config import Config, compose
from ristune.simulate import ensure_dataset
from ristune.sweep.distribution import Scalar
from ristune.sweep.space import suggest
from ristune.sweep.space_parsing import parse_space
from ristune.trial import prepare

DEFAULTS = [
    *("space=wide", "training.epochs=27", "simulator.train=2048", "simulator.val=512", "simulator.test=64"),
    *("tracking.mode=disabled", "training.threads=1", "training.diagnostics=false"),
]
DIGITS = 5


def draw(config: Config, count: int) -> list[dict[str, Scalar]]:
    """Configurations of the space, at random and always the same."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.sweep.seed))
    space = parse_space(config)
    return [suggest(space, study.ask()) for _ in range(count)]


def work(values: Mapping[str, Any]) -> float:
    """What an epoch costs, roughly: convolutions of so many channels, times their number."""
    width, blocks, stages = (values.get(f"task.network.{name}", 1) for name in ("width", "blocks", "stages"))
    return float(width**2 * blocks * stages)


def start_process() -> None:
    torch.set_num_threads(1)


def train(overrides: Sequence[str], number: int, values: Mapping[str, Scalar]) -> dict[str, Any]:
    """One curve."""
    torch.set_num_threads(1)
    trial = prepare(compose(list(overrides)).with_values(values), lambda line: None)
    records = list(trial.run())
    return {
        "number": number,
        "values": dict(values),
        "samples": trial.train.rows,
        "device": trial.train.device.type,
        "status": str(records[-1].status),
        "reason": records[-1].reason,
        "objective": [None if r.value is None else float(f"{r.value:.{DIGITS}g}") for r in records],
        "seconds": [round(r.seconds, 3) for r in records],
    }


def record(overrides: Sequence[str], count: int, processes: int, out: Path) -> None:
    """Train what a file lacks, and append each curve.

    Args:
        overrides: of the configuration, with the dataset.
        count: of configurations.
        processes: trainings at a time.
        out: the file.

    Raises:
        ValueError: if the file has other configurations.
    """
    config = compose(list(overrides))
    drawn = dict(enumerate(draw(config, count)))
    before = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    for curve in before:
        if drawn.get(curve["number"]) != curve["values"]:
            raise ValueError(f"{out}: number {curve['number']} is not what is drawn now: name another file")
        if curve["status"] == "complete" and len(curve["objective"]) != config.training.epochs:
            raise ValueError(f"{out} has trainings of {len(curve['objective'])} epochs: name another file")
    ensure_dataset(config, cli.console())
    missing = sorted(drawn.keys() - {curve["number"] for curve in before}, key=lambda n: -work(drawn[n]))
    print(f"{len(missing)} trainings of {config.training.epochs} epochs, {processes} at a time", flush=True)
    started, spent = time.perf_counter(), 0.0
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), start_process)
    total, done = sum(work(drawn[n]) for n in missing), 0.0
    try:
        jobs = [pool.submit(train, overrides, number, drawn[number]) for number in missing]
        with out.open("a") as file:
            for count_done, job in enumerate(as_completed(jobs), start=1):
                curve = job.result()
                file.write(json.dumps(curve) + "\n")
                file.flush()
                spent, done = time.perf_counter() - started, done + work(curve["values"])
                finite = [value for value in curve["objective"] if value is not None]
                best = f"best {min(finite):.4g}" if finite else "never finite"
                print(
                    f"{count_done}/{len(jobs)} after {spent:.0f} s ({done / total:.0%} of the work): "
                    f"number {curve['number']} {curve['status']}, {best}, {sum(curve['seconds']):.0f} s",
                    flush=True,
                )
    finally:
        pool.shutdown(cancel_futures=True)


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep.curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--configurations", type=cli.at_least_one, default=48, metavar="N", help="default: 48"
    )
    parser.add_argument("--processes", type=cli.at_least_one, default=os.cpu_count(), metavar="P")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="of the configuration")
    arguments = parser.parse_intermixed_args(argv)
    # Inherited: numeric libraries read it when they are loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        # All trainings may lie on one GPU.
        own = [
            f"data.uri={folder}/data",
            f"data.cache={folder}/cache",
            f"data.gpu_share={0.5 / arguments.processes}",
        ]
        overrides = [*DEFAULTS, *own, *arguments.overrides]
        try:
            record(overrides, arguments.configurations, arguments.processes, arguments.out)
        except ValueError as error:
            parser.error(str(error))
    return cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(_main))
