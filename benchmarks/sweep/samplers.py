"""Which sampler, and whether with ASHA: searches of the digits in pairs, for the same training time each.

    python -m benchmarks.sweep.samplers --out FILE [--methods random random+asha stock tpe+asha tpe ...]
        [--seeds 30] [--processes P] [--budget 24] [--epochs 18] [--workers 4]
    python -m benchmarks.sweep.samplers --report FILE [--methods METHOD ...] [--against METHOD ...]

Every (method, seed) is one search: trials are real trainings of a convolutional network on 600 handwritten
digits, each on one thread, by `--workers` virtual workers (ASHA with one worker is another thing than with
several) until `--budget` seconds of CPU time have gone into training and validation. Each seed has its own
split of the images. A process takes one search after the other, all methods of a seed first, so that a
machine that grows slower does so for both of a pair. A search that ends is appended to FILE, a JSON object
a line; the same command goes on where it was stopped. `--report` prints the tables, over the seeds that all
methods have.

Methods are `stock` (Ray's OptunaSearch and ASHAScheduler as they come) and
`SAMPLER[+SCHEDULER][,PATH=VALUE...]`. What the tables are worth is said in benchmarks/sweep/pairs.py. Run
it where the repository is.
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.sweep.engines import STOCK, parse_method
from benchmarks.sweep.pairs import report
from benchmarks.sweep.searches import Settings, Training, configure, run_search, write_dataset
from ristune import cli
from ristune.sweep_config import SAMPLERS

RANDOM = "random"
BASELINES = (RANDOM, f"{RANDOM}+asha", STOCK)
DEFAULT_METHODS = [*BASELINES, *(f"{name}+asha" for name in SAMPLERS if name != RANDOM), "tpe"]
# Of the wall, beside the time of training: building networks, measuring on test, asking.
BESIDE = 1.25
# Seconds that a process needs to import everything.
STARTING = 10
# Where a journal's fsync costs nothing.
MEMORY = Path("/dev/shm")


def start_process(folder: Path) -> None:
    """One thread and no chatter; and what only a first training does is done before one is timed."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("ray").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    Training(configure(parse_method(RANDOM), 0, Settings(1, 1.0, 1), folder)).epoch()


def search_once(name: str, seed: int, settings: Settings, folder: Path) -> dict[str, Any]:
    """One search in this process."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ristune-", dir=place) as scratch:
        return run_search(parse_method(name), seed, settings, folder, Path(scratch))


def read(path: Path) -> list[dict[str, Any]]:
    """The searches of a file; none where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def search_all(methods: Sequence[str], seeds: int, settings: Settings, processes: int, out: Path) -> int:
    """Run the searches that a file lacks, and append each.

    Returns:
        How many failed: one that does must not take the others with it.

    Raises:
        ValueError: if the file has searches of other settings.
    """
    before = read(out)
    if any(search["settings"] != asdict(settings) for search in before):
        raise ValueError(f"{out} has searches of other settings, {before[0]['settings']}: name another file")
    done = {(search["method"], search["seed"]) for search in before}
    asked = [(method, seed) for seed in range(seeds) for method in methods]
    missing = [pair for pair in asked if pair not in done]
    seconds = STARTING + BESIDE * settings.budget * -(-len(missing) // processes)
    print(
        f"{len(missing)} searches of {settings.budget:g} s of training each, {len(done)} are there, "
        f"{processes} at once: about {seconds / 60:.0f} minutes on as many free cores",
        flush=True,
    )
    started, failed = time.perf_counter(), 0
    # Inherited: numeric libraries read it when they are loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder, out.open("a") as file:
        data = Path(folder)
        for seed in sorted({0, *(seed for _, seed in missing)}):
            write_dataset(data, seed)
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, context, start_process, (data,))
        try:
            jobs = {pool.submit(search_once, *pair, settings, data): pair for pair in missing}
            for number, job in enumerate(as_completed(jobs), start=1):
                after = f"{number}/{len(jobs)} after {time.perf_counter() - started:.0f} s"
                if job.exception() is not None:
                    failed += 1
                    print(f"{after}: {jobs[job]} failed: {job.exception()!r}", flush=True)
                    continue
                file.write(json.dumps(job.result()) + "\n")
                file.flush()
                print(f"{after}: {line(job.result())}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    return failed


def line(search: dict[str, Any]) -> str:
    """A search in a line."""
    best = search["path"][-1]
    return (
        f"{search['method']} seed {search['seed']}: {search['trials']} trials, {search['complete']} whole, "
        f"{search['epochs']} epochs; val {best['val']:.4f}, test {best['test']:.4f}; "
        f"asking {search['asking']:.1f} s of {search['wall']:.1f} s"
    )


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep.samplers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FILE", help="search, and append a line a search")
    what.add_argument("--report", type=Path, metavar="FILE", help="print the tables of such a file")
    parser.add_argument(
        "--methods", nargs="+", help=f"default: {' '.join(DEFAULT_METHODS)}; of a report, all that are there"
    )
    parser.add_argument("--against", nargs="+", default=BASELINES, help="of the report; default: %(default)s")
    parser.add_argument("--seeds", type=cli.at_least_one, default=30, metavar="N", help="default: 30")
    parser.add_argument("--processes", type=cli.at_least_one, default=os.cpu_count(), metavar="P")
    parser.add_argument("--budget", type=float, default=24.0, metavar="SECONDS", help="default: 24")
    parser.add_argument("--epochs", type=cli.at_least_one, default=18, metavar="N", help="default: 18")
    parser.add_argument("--workers", type=cli.at_least_one, default=4, metavar="W", help="default: 4")
    arguments = parser.parse_args(argv)
    if arguments.report:
        searches = [
            search
            for search in read(arguments.report)
            if not arguments.methods or search["method"] in arguments.methods
        ]
        print(report(searches, arguments.against), end="")
        return cli.DONE
    settings = Settings(arguments.epochs, arguments.budget, arguments.workers)
    methods = arguments.methods or DEFAULT_METHODS
    try:
        for method in methods:
            parse_method(method)
        failed = search_all(methods, arguments.seeds, settings, arguments.processes, arguments.out)
    except ValueError as error:
        parser.error(str(error))
    return cli.FAILED if failed else cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(_main))
