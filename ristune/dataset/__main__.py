"""`python -m ristune.dataset COMMAND ...`: the commands on datasets."""

import sys
from collections.abc import Sequence

from ristune.dispatch import Command, dispatch

PURPOSE = "Look at a dataset, verify it, and bring it from and to other formats."

COMMANDS = {
    "info": Command("ristune.dataset.info", "what a dataset holds: columns, splits, statistics, a picture"),
    "verify": Command(
        "ristune.dataset.verify", "whether every byte and every row is sound; lists all faults"
    ),
    "export": Command("ristune.dataset.export", "write it as Parquet that DuckDB, polars and pandas read"),
    "convert": Command("ristune.dataset.convert", "make a dataset of Parquet files that other tools wrote"),
    "import-npz": Command("ristune.dataset.import_npz", "make a dataset of shards by numpy.savez"),
    "cache": Command("ristune.dataset.cache", "list or clear what this machine keeps of datasets"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch on the first word."""
    return dispatch("python -m ristune.dataset", PURPOSE, COMMANDS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
