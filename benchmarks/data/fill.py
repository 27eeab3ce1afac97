"""Filling the node's cache from S3, beside the same server's raw ranged throughput.

    python -m benchmarks.data.fill FOLDER [--rounds 7] [--cold]

A radosgw on loopback (`make tools`) holds a dataset. In turns: all its shards are read by ranges of 16 MiB in
as many threads and thrown away (raw), and a node's cache is filled: hashed, decoded, written to shared
memory. CPU seconds of client and server are told apart; requests are counted in the server's log. At last
some trials start together.

On a virtual machine memory that was not used for some seconds is the host's, which hands it out more slowly
than a network delivers. What a step needs is therefore touched before it, unless `--cold` is given.
"""

import argparse
import mmap
import multiprocessing
import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.data.peers.ours import CACHE, write
from ristune.data.cache import NodeCache
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.places import Place
from ristune.data.scatter import READERS
from ristune.storage.access import open_storage
from ristune.storage.objects import RANGE_BYTES
from tests.s3.radosgw import Radosgw

SPAWN = multiprocessing.get_context("spawn")
TICK = os.sysconf("SC_CLK_TCK")


def cpu_of_server(server: Radosgw) -> float:
    """CPU seconds of the server's processes so far."""
    fields = [
        Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        for process in server._processes
    ]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICK


def touch(size: int) -> None:
    """Have so many bytes of memory from the host, and let them go."""
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(pages, np.uint8)
    memory[:: mmap.PAGESIZE] = 1
    del memory
    pages.close()


def timed(server: Radosgw, work: Callable[[], None]) -> tuple[float, float, float]:
    """Wall seconds, and CPU seconds of client and server."""
    before, start = (sum(os.times()[:2]), cpu_of_server(server)), time.perf_counter()
    work()
    wall = time.perf_counter() - start
    return wall, sum(os.times()[:2]) - before[0], cpu_of_server(server) - before[1]


def read_raw(dataset: Dataset) -> None:
    """Every shard by ranges, as many at once as a fill has, nothing done with the bytes."""
    ranges = [
        (shard, start)
        for shard in dataset.manifest.splits["train"].shards
        for start in range(0, shard.bytes, RANGE_BYTES)
    ]
    readers = {
        shard.path: dataset.storage.open(shard.path) for shard in dataset.manifest.splits["train"].shards
    }

    def read(which: tuple) -> None:
        shard, start = which
        buffer = np.empty(min(RANGE_BYTES, shard.bytes - start), np.uint8)
        readers[shard.path].read_into(start, buffer.data)

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, ranges))
    for reader in readers.values():
        reader.close()


def opened(uri: str) -> Dataset:
    cache = NodeCache((Place(CACHE / "fill", 10**11, "data.cache_disk_gb"),), lambda line: None)
    return open_dataset(uri, cache)


def fill(uri: str) -> None:
    dataset = opened(uri)
    dataset.resident("train", dataset.rows("train"))


def trial(uri: str, barrier) -> None:
    barrier.wait()
    fill(uri)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="work folder; the dataset is written there if it is not yet"
    )
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--cold", action="store_true", help="do not touch memory before")
    arguments = parser.parse_args()
    local = arguments.folder / f"sharing-{arguments.samples}"
    if not (local / "manifest.json").exists():
        write(local, arguments.samples)
    with Radosgw() as server:
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = (
            server.keys.access,
            server.keys.secret,
        )
        server.make_bucket("data")
        uri = server.uri("data", "d")
        remote = open_storage(uri)
        for path in sorted(local.rglob("*.*"), key=lambda path: path.name == "manifest.json"):
            remote.write_atomic(str(path.relative_to(local)), path.read_bytes())
        dataset = open_dataset(uri)
        shards = dataset.manifest.splits["train"].shards
        size = sum(shard.bytes for shard in shards)
        print(f"{len(shards)} shards, {size / 1e6:.0f} MB; MB/s, then CPU seconds of client + server")
        ratios = []
        for _ in range(arguments.rounds):
            if not arguments.cold:
                touch(2 * size)
            raw = timed(server, lambda: read_raw(dataset))
            shutil.rmtree(CACHE / "fill", ignore_errors=True)
            if not arguments.cold:
                touch(2 * size)
            filled = timed(server, lambda: fill(uri))
            ratios.append(raw[0] / filled[0])
            print(
                f"raw {size / 1e6 / raw[0]:5.0f} ({raw[1]:.2f} + {raw[2]:.2f})   "
                f"fill {size / 1e6 / filled[0]:5.0f} ({filled[1]:.2f} + {filled[2]:.2f})   "
                f"ratio {ratios[-1]:.2f}"
            )
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        shutil.rmtree(CACHE / "fill", ignore_errors=True)
        before = len(server.requests())
        barrier = SPAWN.Barrier(arguments.trials)
        processes = [SPAWN.Process(target=trial, args=(uri, barrier)) for _ in range(arguments.trials)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        asked = [request for request in server.requests(before) if request.key.endswith(".parquet")]
        counts = Counter(request.method for request in asked)
        needed = sum(-(-shard.bytes // RANGE_BYTES) for shard in shards)
        sent = sum(request.bytes for request in asked)
        print(
            f"{arguments.trials} trials together: {counts['GET']} GET ({needed} ranges of 16 MiB), "
            f"{counts['HEAD']} HEAD ({len(shards)} shards), {sent / size:.3f} of the dataset's bytes"
        )
        shutil.rmtree(CACHE / "fill", ignore_errors=True)


if __name__ == "__main__":
    main()
