"""Memory bandwidth: one thread copies a large array; a line of JSON as the peers print it.

`rates` are samples/s that a loader would reach if a batch cost one copy of its bytes, and nothing else.
"""

import argparse
import json
import time

import numpy as np

from benchmarks.data.peers.workload import ROW


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    source = np.ones(args.megabytes * 1_000_000, np.uint8)
    # Ones, not empty: pages are faulted in before the clock runs.
    target = np.ones_like(source)
    seconds = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    rates = [source.nbytes / one for one in seconds]
    record = {
        "peer": "memcpy",
        "version": np.__version__,
        "variant": f"{args.megabytes} MB",
        "gigabytes_per_s": round(max(rates) / 1e9, 2),
        "rates": [round(rate / ROW.itemsize) for rate in rates],
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
