"""Command: write a dataset as Parquet that other tools read."""

import sys
from collections.abc import Sequence

from ristune import cli
from ristune.data.dataset import open_dataset
from ristune.data.foreign.export import export
from ristune.dataset.console import row_counts, size, stored_bytes
from ristune.meter import Meter

EXAMPLES = """\
  python -m ristune.dataset export --interoperable data/nearfield out/nearfield
  duckdb -c "select avg(snr_db) from 'out/nearfield/train/*.parquet'"
  python -c "import polars; print(polars.read_parquet('out/nearfield/train/*.parquet'))\""""
PURPOSE = """\
Write a dataset as Parquet that DuckDB, polars and pandas read: a tensor is a fixed-size list, flat in C
order with its shape in the field's metadata, floats are stored as split byte streams, and everything is
compressed (zstd). ristune opens the export as well, slower than the original; `dataset convert` turns it
back."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.dataset export`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("dataset export", PURPOSE, EXAMPLES, configured=False)
    parser.add_argument("uri", metavar="URI", help="the dataset: a path, file://, s3:// or gs://")
    parser.add_argument("out", metavar="OUT", help="where to write: a new or empty directory")
    parser.add_argument(
        "--interoperable",
        action="store_true",
        required=True,
        help="the form of the files; there is one so far",
    )
    arguments = parser.parse_intermixed_args(argv)
    console = cli.console()
    dataset = open_dataset(arguments.uri)
    if dataset.hint:
        console.print(dataset.hint)
    manifest = dataset.manifest
    total = sum(split.rows for split in manifest.splits.values())
    with Meter(console, f"exporting to {arguments.out}", total) as meter:
        written = export(dataset, arguments.out, meter.advance)
    original = stored_bytes(manifest) + sum(table.bytes for table in manifest.tables.values())
    ratio = f"{written / original:.2f} of the {size(original)} of the original"
    console.print(f"{arguments.out}: {row_counts(manifest)}, {size(written)}, {ratio}")
    return cli.DONE


if __name__ == "__main__":
    sys.exit(main())
