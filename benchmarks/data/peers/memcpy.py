"""Memory bandwidth: threads copy a large array; a line of JSON as the peers print it.

`rates` are samples/s that a loader would reach if a batch cost one copy of its bytes, and nothing else.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.data.peers.workload import ROW


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    source = np.ones(args.megabytes * 1_000_000, np.uint8)
    # Ones, not empty: pages are faulted in before the clock runs.
    target = np.ones_like(source)
    parts = list(zip(np.array_split(target, args.threads), np.array_split(source, args.threads), strict=True))
    seconds = []
    with ThreadPoolExecutor(args.threads) as pool:
        for _ in range(args.repeats):
            start = time.perf_counter()
            list(pool.map(lambda part: np.copyto(*part), parts))
            seconds.append(time.perf_counter() - start)
    rates = [source.nbytes / one for one in seconds]
    record = {
        "peer": "memcpy",
        "version": np.__version__,
        "variant": f"{args.megabytes} MB" if args.threads == 1 else f"{args.threads} threads",
        "gigabytes_per_s": round(max(rates) / 1e9, 2),
        "rates": [round(rate / ROW.itemsize) for rate in rates],
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
