"""How the engine's own work grows with the study, and what a bounded history costs.

    python -m benchmarks.sweep.scale time   [--trials 10000] [--workers 1000] [sweep.history=300 ...]
    python -m benchmarks.sweep.scale regret [--trials 600] [--seeds 30] [--processes 2] [PATH=VALUE ...]

`time` runs a study on a simulated clock: the real searcher, scheduler and journal (with its fsync), and
workers that only wait. It prints milliseconds of an ask, and of a report (scheduler, journal and searcher
together), by stretches of the study, and the memory of the process at the most. `regret` compares the best
that a search finds with the history bounded and unbounded, on functions with a known best, seed by seed:
Wilcoxon's signed ranks say whether a difference is more than chance.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon

from benchmarks.sweep.surfaces import Surface, hartmann, training
from benchmarks.sweep.virtual import Values, by_trial, run
from ristune.config import compose

SURFACES = {"hartmann": hartmann, "training": training}
UNBOUNDED = 1_000_000
EDGES = [0, 500, 1000, 2000, 4000, 6000, 8000, 9000]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("time", "regret"))
    parser.add_argument("--trials", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.what == "time":
        measure(arguments.trials or 10_000, arguments.workers or 1000, arguments.overrides)
    else:
        compare(arguments)
    return 0


def measure(trials: int, workers: int, overrides: Sequence[str]) -> None:
    """Print how long asks and reports take as a study grows."""
    config, surface, epochs = compose(overrides), training(), 27
    rng = np.random.default_rng(0)
    pace: dict[str, float] = {}

    def curve(trial: str, values: Values, epoch: int) -> tuple[float, float]:
        final = surface.value(values)
        seconds = pace.setdefault(trial, float(rng.uniform(0.5, 2.0)))
        return final + 0.5 / epoch, seconds

    def progress(told: int) -> None:
        if told % 500 == 0:
            print(f"{told} of {trials} told", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        _, timings = run(config, surface.space, Path(folder), trials, workers, epochs, curve, progress)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    print(f"{trials} trials, {workers} at once, {' '.join(overrides) or 'defaults'}\n")
    print("| from trial | ask, median ms | ask, 95 % | from report | report, median ms | report, 95 % |")
    print("|---|---|---|---|---|---|")
    scale = len(timings.events) / len(timings.asks)
    edges = [edge for edge in EDGES if edge < trials]
    events = by_trial(timings.events, [int(edge * scale) for edge in edges])
    for (first, median, high), (report, middle, top) in zip(
        by_trial(timings.asks, edges), events, strict=True
    ):
        row = f"| {first} | {1e3 * median:.1f} | {1e3 * high:.1f} "
        print(row + f"| {report} | {1e3 * middle:.2f} | {1e3 * top:.2f} |")
    late = 1e3 * float(np.percentile(timings.asks[min(500, trials // 2) :], 95))
    print(f"\nasks from trial 500 on: 95th percentile {late:.1f} ms")
    print(f"memory at the most: {timings.memory / 2**20:.0f} MiB; journal {size / 2**20:.0f} MiB")


def compare(arguments: argparse.Namespace) -> None:
    """Print the regret of a bounded and of an unbounded history."""
    trials, workers = arguments.trials or 600, arguments.workers or 8
    print(f"{trials} trials, {workers} at once, {arguments.seeds} seeds, {' '.join(arguments.overrides)}\n")
    print("| function | bounded: regret, median | unbounded | bounded better / worse | Wilcoxon p |")
    print("|---|---|---|---|---|")
    for name in SURFACES:
        jobs = [
            (name, [*arguments.overrides, f"sweep.seed={seed}", *more], trials, workers)
            for seed in range(arguments.seeds)
            for more in ([], [f"sweep.history={UNBOUNDED}"])
        ]
        with ProcessPoolExecutor(arguments.processes) as pool:
            found = np.array(list(pool.map(regret, *zip(*jobs, strict=True)))).reshape(-1, 2)
        bounded, unbounded = found.T
        p = wilcoxon(bounded, unbounded).pvalue if np.any(bounded != unbounded) else 1.0
        row = f"| {name} | {np.median(bounded):.4g} | {np.median(unbounded):.4g} "
        print(row + f"| {sum(bounded < unbounded)} / {sum(bounded > unbounded)} | {p:.2g} |", flush=True)


def regret(name: str, overrides: Sequence[str], trials: int, workers: int) -> float:
    """How far the best that a search found is from the best there is, both without noise."""
    surface: Surface = SURFACES[name]()
    config = compose([*overrides, "sweep.scheduler=none"])
    rng = np.random.default_rng(config.sweep.seed)
    noise: dict[str, float] = {}

    def curve(trial: str, values: Values, epoch: int) -> tuple[float, float]:
        drawn = noise.setdefault(trial, surface.noise * float(rng.normal()))
        return surface.value(values) + drawn, float(rng.uniform(0.5, 2.0))

    with tempfile.TemporaryDirectory() as folder:
        search, _ = run(config, surface.space, Path(folder), trials, workers, 1, curve)
    best = search.journal.history.best
    assert best is not None
    return surface.value(best.values) - surface.best


if __name__ == "__main__":
    sys.exit(main())
