"""How fast the default near-field scenes are simulated, to disk, and what that takes.

For every number of workers a dataset is written to a fresh folder, as `python -m ristune.simulate` writes it,
in shards so small that every worker has several. Ray is started before the clock, for that takes seconds
whatever the size of the dataset, and every process draws a few scenes first, so that imports are not timed.

python benchmarks/simulating.py [--scenes 24576] [--shard-rows 4096] [--workers 1 2] [PATH=VALUE ...]
"""

import argparse
import os
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from ristune.config import build, compose
from ristune.data.writing.source import Part, Progress, Simulated
from ristune.data.writing.writer import Mapper, serial, write_dataset
from ristune.parallel import pool


def measured(function: Any, peaks: Path, part: Part, progress: Progress | None) -> Any:
    """Run the function and note the process's peak of resident memory so far, in KiB."""
    result = function(part, progress)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    (peaks / str(os.getpid())).write_text(peak)
    return result


def measuring(mapper: Mapper, peaks: Path) -> Mapper:
    """The mapper, noting the memory of the processes it uses."""
    return lambda function, parts, progress: mapper(partial(measured, function, peaks), parts, progress)


def write(source: Simulated, workers: int, folder: Path) -> tuple[float, float, int]:
    """Seconds, bytes a sample, and the largest peak of a process, KiB."""
    peaks = folder / "peaks"
    peaks.mkdir(parents=True)
    with nullcontext(serial) if workers == 1 else pool(workers) as mapper:
        list(mapper(partial(_warm, source), [Part("train", 0, 64)] * workers, None))
        started = time.perf_counter()
        manifest = write_dataset(str(folder / "dataset"), source, measuring(mapper, peaks))
        seconds = time.perf_counter() - started
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    size = sum(shard.bytes for shard in shards) / sum(shard.rows for shard in shards)
    return seconds, size, max(int(path.read_text()) for path in peaks.iterdir())


def _warm(source: Simulated, part: Part, progress: Progress | None) -> None:
    source.arrays(part, None)


def main() -> None:
    """Print a line for every number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=24576)
    parser.add_argument("--shard-rows", type=int, default=4096)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    arguments = parser.parse_intermixed_args()
    config = compose(arguments.overrides)
    assert config.simulator is not None
    source = Simulated(build(config.simulator), {"train": arguments.scenes}, 1, arguments.shard_rows)
    cores = len(os.sched_getaffinity(0))
    print(f"{arguments.scenes} scenes in shards of {arguments.shard_rows}, {cores} cores")
    print(f"{'workers':>7} {'seconds':>8} {'scenes/s':>9} {'bytes a scene':>14} {'peak a process [MiB]':>21}")
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory() as folder:
            seconds, size, peak = write(source, workers, Path(folder))
        rate = arguments.scenes / seconds
        print(f"{workers:>7} {seconds:>8.1f} {rate:>9.0f} {size:>14.0f} {peak / 1024:>21.0f}", flush=True)


if __name__ == "__main__":
    main()
