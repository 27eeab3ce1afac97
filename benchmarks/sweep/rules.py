"""Which stopping rule: those of the scheduler, replayed on recorded learning curves in many random orders.

    python -m benchmarks.sweep.rules FILE [--rules none asha-1-3 ...] [--against asha-1-3] [--workers 8]
        [--orders 500] [--resamples 200] [--share 0.25] [--processes P]

FILE is of benchmarks.sweep.curves. Two things are asked of each rule. *Whole pool*: every configuration is
begun once, in random order; what share of the epochs and of the seconds of all is spent, how often the
truly best one comes to its end, and the regret: how far the winner stays above it. *Equal time*:
configurations are drawn from the pool again and again until the training time of a share of the pool is
spent; what a rule saves goes into more of them. The objective of a winner is the best that it reported,
also if it was stopped.

A rule is `none`, `median-GRACE`, `asha-GRACE-REDUCTION` or `hyperband-GRACE-REDUCTION`. All rules see the
same orders. Intervals (95 %) are of a bootstrap over the configurations, each resample with a twentieth of
the orders: what another draw of as many could have shown.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sweep.replay import Curve, curve_of, make_guard, replay
from ristune import cli
from ristune.config import compose
from ristune.sweep_config import SweepConfig

DEFAULT = "asha-1-3"
RULES = [
    *("none", "median-1", "median-3", "hyperband-1-3"),
    *(f"asha-{grace}-{reduction}" for grace in (1, 2, 3) for reduction in (2, 3, 4)),
]
COLUMNS = ("epochs", "time", "best kept", "regret", "begun", "regret at equal time")
# Orders of a resample are fewer: their noise is small beside that of the draw.
FEWER = 20


def forever(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Numbers below a count, drawn again and again."""
    while True:
        yield from rng.integers(count, size=256).tolist()


@dataclass(frozen=True)
class Setting:
    """What all replays share.

    Attributes:
        rules: by name.
        epochs: of a whole training.
        workers: at once.
        share: of the pool's seconds, for equal time.
        sweep: what a sweep has beside its rule.
    """

    rules: tuple[str, ...]
    epochs: int
    workers: int
    share: float
    sweep: SweepConfig


def measure(curves: Sequence[Curve], setting: Setting, orders: int, seed: int) -> NDArray[np.float64]:
    """The mean of each of the columns over random orders.

    Args:
        curves: the pool.
        setting: of all replays.
        orders: how many.
        seed: of the orders.

    Returns:
        [rules, columns].
    """
    finals = np.array([curve.best[-1] for curve in curves])
    lowest = float(finals.min())
    # A resample may have the best one twice.
    truth = set(np.flatnonzero(finals == lowest).tolist())
    all_epochs = sum(len(curve.best) for curve in curves)
    all_seconds = sum(sum(curve.seconds) for curve in curves)
    sums = np.zeros((len(setting.rules), len(COLUMNS)))
    for order in range(orders):
        for row, name in enumerate(setting.rules):
            # Anew for each rule: all see the same order.
            rng = np.random.default_rng([seed, order])
            pool = iter(rng.permutation(len(curves)).tolist())
            once, again = (
                replay(
                    curves,
                    numbers,
                    make_guard(name, setting.sweep, setting.epochs, seed * orders + order),
                    setting.workers,
                    limit,
                )
                for numbers, limit in (
                    (pool, float("inf")),
                    (forever(len(curves), rng), setting.share * all_seconds),
                )
            )
            sums[row] += (
                once.epochs / all_epochs,
                once.seconds / all_seconds,
                not truth.isdisjoint(once.whole),
                once.best - lowest,
                again.trials,
                again.best - lowest,
            )
    means: NDArray[np.float64] = sums / orders
    return means


def resampled(curves: Sequence[Curve], setting: Setting, orders: int, seed: int) -> NDArray[np.float64]:
    """`measure` on as many curves drawn from these, one possibly more than once."""
    chosen = np.random.default_rng([seed, 1, 1]).integers(len(curves), size=len(curves))
    return measure([curves[number] for number in chosen], setting, orders, seed)


def describe(curves: Sequence[Curve]) -> str:
    """The pool in a line."""
    finals = [curve.best[-1] for curve in curves]
    quartiles = ", ".join(f"{quartile:.4f}" for quartile in np.quantile(finals, [0.25, 0.5, 0.75]))
    diverged = sum(curve.status != "complete" for curve in curves)
    seconds = sum(sum(curve.seconds) for curve in curves)
    return (
        f"{len(curves)} configurations, {diverged} of which diverged, {seconds:.0f} s of training; "
        f"objective at their ends: best {min(finals):.4f}, quartiles {quartiles}"
    )


def table(rules: Sequence[str], against: str, whole: NDArray[np.float64], parts: NDArray[np.float64]) -> str:
    """Markdown.

    Args:
        rules: rows.
        against: the rule that regrets at equal time are held against.
        whole: of all curves, [rules, columns].
        parts: of the resamples, [resamples, rules, columns].
    """
    beside = rules.index(against)
    gaps = whole[:, -1] - whole[beside, -1]
    part_gaps = parts[:, :, -1] - parts[:, beside : beside + 1, -1]
    head = [*COLUMNS, f"less that of {against}"]
    lines = [f"| rule | {' | '.join(head)} |", "|---|" + "---:|" * len(head)]
    for row, name in enumerate(rules):
        low, high = np.quantile(parts[:, row], [0.025, 0.975], axis=0)
        cells = []
        for column, title in enumerate(COLUMNS):
            form = (
                "{:.0%}"
                if title in ("epochs", "time", "best kept")
                else "{:.1f}"
                if title == "begun"
                else "{:.4f}"
            )
            bounds = f"{form.format(low[column])} .. {form.format(high[column])}"
            cells.append(f"{form.format(whole[row, column])} ({bounds})")
        low, high = np.quantile(part_gaps[:, row], [0.025, 0.975])
        cells.append("" if row == beside else f"{gaps[row]:+.4f} ({low:+.4f} .. {high:+.4f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep.rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--rules", nargs="+", default=RULES, help="default: %(default)s")
    parser.add_argument("--against", default=DEFAULT, metavar="RULE", help="default: %(default)s")
    parser.add_argument("--workers", type=cli.at_least_one, default=8, metavar="W", help="default: 8")
    parser.add_argument("--orders", type=cli.at_least_one, default=500, metavar="N", help="default: 500")
    parser.add_argument("--resamples", type=cli.at_least_one, default=200, metavar="N", help="default: 200")
    parser.add_argument("--share", type=float, default=0.25, help="of the pool's time; default: 0.25")
    parser.add_argument("--processes", type=cli.at_least_one, default=os.cpu_count(), metavar="P")
    arguments = parser.parse_args(argv)
    rules = list(dict.fromkeys([*arguments.rules, arguments.against]))
    config = compose([])
    curves = [
        curve_of(json.loads(line), config.training.ceiling)
        for line in arguments.file.read_text().splitlines()
    ]
    epochs = max(len(curve.best) for curve in curves)
    try:
        for name in rules:
            make_guard(name, config.sweep, epochs, 0)
    except ValueError as error:
        parser.error(str(error))
    print(describe(curves), flush=True)
    print(
        f"{arguments.workers} workers; equal time is a share of {arguments.share:g} of the pool's; "
        f"{arguments.orders} orders\n",
        flush=True,
    )
    asked = curves, Setting(tuple(rules), epochs, arguments.workers, arguments.share, config.sweep)
    fewer = max(1, arguments.orders // FEWER)
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        # In parts of their own, that every process has some of it.
        chunks = [pool.submit(measure, *asked, fewer, seed) for seed in range(FEWER)]
        draws = pool.map(partial(resampled, *asked, fewer), range(FEWER, FEWER + arguments.resamples))
        parts = np.stack(list(draws))
        whole = np.mean([chunk.result() for chunk in chunks], axis=0)
    print(table(rules, arguments.against, whole, parts))
    return cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(_main))
