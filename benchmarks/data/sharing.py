"""Two trials on one node: do they share the pages of a dataset, and do they together read as fast as one?

    python -m benchmarks.data.sharing FOLDER [--rounds 5]

A process reads shuffled epochs from the node's cache alone, then two do at once, in turns; the ratio is that
of the rates summed. Memory is what the kernel says of the mapping (/proc/PID/smaps): Rss counts shared pages
in each process, Pss divides them among those that share them.
"""

import argparse
import multiprocessing
import re
import statistics
import time
from collections import deque
from pathlib import Path

from benchmarks.data.peers.ours import CACHE, open_stream, write

SPAWN = multiprocessing.get_context("spawn")


def mapped(key: str) -> int:
    """Kilobytes of the mapped rows of this process."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(".rows")
        elif inside and line.startswith(f"{key}:"):
            found += int(line.split()[1])
    return found


def read(folder: Path, seconds: float, prefetch: int, barrier, queue) -> None:
    """Read for some seconds after all are ready; put the rate and the memory."""
    epoch = open_stream(folder, 0, "cached", prefetch)
    # Pages are mapped before the clock runs.
    deque(epoch(0), maxlen=0)
    barrier.wait()
    count, number, start = 0, 1, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for batch in epoch(number):
            count += len(batch["scene_id"])
        number += 1
    rate = count / (time.perf_counter() - start)
    barrier.wait()
    queue.put((rate, mapped("Rss"), mapped("Pss")))
    barrier.wait()


def together(folder: Path, trials: int, seconds: float, prefetch: int) -> list[tuple[float, int, int]]:
    barrier, queue = SPAWN.Barrier(trials), SPAWN.Queue()
    arguments = (folder, seconds, prefetch, barrier, queue)
    processes = [SPAWN.Process(target=read, args=arguments) for _ in range(trials)]
    for process in processes:
        process.start()
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="work folder; the dataset is written there if it is not yet"
    )
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefetch", type=int, default=1)
    arguments = parser.parse_args()
    folder = arguments.folder / f"sharing-{arguments.samples}"
    if not (folder / "manifest.json").exists():
        write(folder, arguments.samples)
    ratios = []
    for _ in range(arguments.rounds):
        ((alone, rss, pss),) = together(folder, 1, arguments.seconds, arguments.prefetch)
        both = together(folder, 2, arguments.seconds, arguments.prefetch)
        total = sum(rate for rate, _, _ in both)
        ratios.append(total / alone)
        print(
            f"alone {alone:9,.0f} samples/s, {rss / 1024:.0f} MiB mapped; two {total:9,.0f} samples/s, "
            f"Rss {both[0][1] / 1024:.0f} + {both[1][1] / 1024:.0f} MiB, "
            f"Pss {both[0][2] / 1024:.0f} + {both[1][2] / 1024:.0f} MiB"
        )
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"kept in {CACHE}")


if __name__ == "__main__":
    main()
