"""Command: make a dataset of Parquet files that other tools wrote."""

import shlex
import sys
from collections.abc import Sequence

from ristune import cli
from ristune.data.dataset import open_dataset
from ristune.data.foreign.convert import Converted
from ristune.data.writing.writer import write_dataset
from ristune.dataset.console import row_counts, size, stored_bytes
from ristune.errors import InputError
from ristune.meter import Meter

EXAMPLES = """\
  python -m ristune.dataset convert my_parquet data/mine
  python -m ristune.dataset convert s3://bucket/my_parquet data/mine --memory 8 --seed 3"""
PURPOSE = """\
Make a dataset of a directory with train/*.parquet (and val/, test/) that pandas, polars, DuckDB or others
wrote. Columns are numbers or lists of them of constant length; `unit`, `role`, `shape` and `dtype` in the
metadata of a field are kept, and the id is the column of role id, else an int64 column `id` or `..._id`,
else a row number.

Rows are put in random order within their split, since any prefix of a dataset must be an unbiased sample
of it: a permutation by --seed, exact whatever the memory. Files are gone through once for every --memory
GB of a split."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.dataset convert`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("dataset convert", PURPOSE, EXAMPLES, configured=False)
    parser.add_argument("uri", metavar="URI", help="the files: a path, file://, s3:// or gs://")
    parser.add_argument("out", metavar="OUT", help="where to write: a new or empty directory")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random order (0)")
    parser.add_argument(
        "--memory", type=float, default=2.0, metavar="GB", help="samples held at a time, in GB (2)"
    )
    arguments = parser.parse_intermixed_args(argv)
    if not 0 < arguments.memory < float("inf"):
        raise InputError("--memory", arguments.memory, "a number of GB above 0 is required", "raise it")
    if arguments.seed < 0:
        raise InputError("--seed", arguments.seed, "a seed is at least 0", "choose another")
    console = cli.console()
    dataset = open_dataset(arguments.uri)
    if not dataset.hint:
        rule = "it is a dataset of ristune's own format already"
        raise InputError("URI", dataset.uri, rule, "copy its directory where another one is needed")
    console.print(dataset.hint)
    source = Converted(dataset, arguments.seed, int(arguments.memory * 1e9))
    order = "are put in random order" if source.shuffled else "keep their order, which is random"
    console.print(f"rows {order}; passes over the files of a split, in all: {source.passes}")
    total = sum(part.rows for part in source.parts())
    with Meter(console, f"converting to {arguments.out}", total) as meter:
        manifest = write_dataset(arguments.out, source, progress=meter.advance)
    written = f"{size(stored_bytes(manifest))}, id {manifest.dataset_id[:12]}"
    console.print(f"{arguments.out}: {row_counts(manifest)}, {written}")
    console.print(f"check it: {shlex.join(['python', '-m', 'ristune.dataset', 'verify', arguments.out])}")
    return cli.DONE


if __name__ == "__main__":
    sys.exit(main())
