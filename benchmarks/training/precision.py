"""Whether half precision trains to the same objective as FP32: the same trainings, by seed and precision.

    python -m benchmarks.training.precision [PATH=VALUE ...] [--precisions fp32 bf16] [--seeds 1 2 3]

Each seed draws the same weights and the same order of the same dataset whatever the precision. Printed are
the best objectives on validation, and how far each precision's mean lies from that of the first. Run it where
the repository is.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.training.overhead import describe, ready
from ristune import cli
from ristune.config import Config, compose
from ristune.simulate import ensure_dataset


def best(config: Config) -> float:
    """The best objective of a training.

    Raises:
        RuntimeError: if it diverged.
    """
    found = float("inf")
    for record in ready(config).trainer.fit():
        if record.reason:
            raise RuntimeError(f"the training diverged: {record.reason}")
        found = min(found, record.objective)
    return found


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--precisions", nargs="+", choices=["bf16", "fp16", "fp32"], default=["fp32", "bf16", "fp16"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="default: 1 2 3")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="of the configuration")
    arguments = parser.parse_intermixed_args(argv)
    found: dict[str, list[float]] = {precision: [] for precision in arguments.precisions}
    with tempfile.TemporaryDirectory() as folder:
        places = [f"data.uri={folder}/data", f"data.cache={folder}/cache", *arguments.overrides]
        ensure_dataset(compose(places), cli.console())
        for seed in arguments.seeds:
            for precision in arguments.precisions:
                config = compose([*places, f"seed={seed}", f"training.precision={precision}"])
                if not found[precision]:
                    print(describe(precision, ready(config)), flush=True)
                started = time.perf_counter()
                found[precision].append(best(config))
                took = time.perf_counter() - started
                print(f"  seed {seed}, {precision}: {found[precision][-1]:.6f} in {took:.1f} s", flush=True)
    reference = statistics.mean(found[arguments.precisions[0]])
    for precision, values in found.items():
        mean = statistics.mean(values)
        print(f"{precision}: mean {mean:.6f}, {mean / reference - 1:+.2%} of {arguments.precisions[0]}")
    return cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(_main))
