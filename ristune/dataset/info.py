"""Command: what a dataset holds."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ristune import cli
from ristune.config import Config
from ristune.data.columns import Column
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.manifest import SPLITS
from ristune.data.shards import row_bytes
from ristune.dataset.console import size, take_uri, task_of
from ristune.training.task import DrawsSamples

EXAMPLES = """\
  python -m ristune.dataset info data/nearfield
  python -m ristune.dataset info data/nearfield --plot nearfield.png
  python -m ristune.dataset info s3://bucket/nearfield --json"""
PURPOSE = """\
Say what a dataset holds: identity, generator, columns, splits, tables, statistics. Only the manifest is
read; with --plot also some rows of the first split."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.dataset info`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("dataset info", PURPOSE, EXAMPLES)
    parser.usage = f"{parser.prog} [OPTION ...] URI [PATH=VALUE ...]"
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="also draw histograms and one sample (.png, .pdf, .svg)"
    )
    parser.add_argument(
        "--samples", type=cli.at_least_one, default=10_000, metavar="N", help="rows in histograms (10000)"
    )
    arguments = parser.parse_intermixed_args(argv)
    uri = take_uri(arguments)
    config = cli.configure(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    console = cli.console()
    dataset = open_dataset(uri)
    if arguments.json:
        print(json.dumps(describe(dataset), indent=2, allow_nan=False))
    else:
        _print(dataset, console)
    if arguments.plot is not None:
        note = _plot(dataset, config, arguments.overrides, arguments.samples, arguments.plot)
        print(f"{arguments.plot} is written{note}", file=sys.stderr)
    return cli.DONE


def describe(dataset: Dataset) -> dict[str, Any]:
    """What there is to know of a dataset without its shards, as plain JSON values."""
    manifest = dataset.manifest
    return {
        "uri": dataset.uri,
        "dataset_id": dataset.dataset_id,
        "hint": dataset.hint,
        "generator": asdict(manifest.generator),
        "columns": [_column(column) for column in manifest.columns],
        "row_bytes": row_bytes(manifest.columns),
        "splits": {
            name: {
                "rows": manifest.splits[name].rows,
                "shards": len(manifest.splits[name].shards),
                "bytes": sum(shard.bytes for shard in manifest.splits[name].shards),
            }
            for name in SPLITS
            if name in manifest.splits
        },
        "tables": {
            name: {
                "rows": table.rows,
                "bytes": table.bytes,
                "columns": [_column(column) for column in table.columns],
            }
            for name, table in manifest.tables.items()
        },
        "statistics": {name: asdict(each) for name, each in manifest.statistics.items()},
    }


def _column(column: Column) -> dict[str, Any]:
    return {**asdict(column), "bytes": column.stored_width}


def _print(dataset: Dataset, console: Console) -> None:
    about = describe(dataset)
    generator = about["generator"]
    console.print(f"{dataset.uri}\nid {dataset.dataset_id}")
    if dataset.hint:
        console.print(f"\n{dataset.hint}")
    console.print(
        f"\ngenerator {generator['name']!r}, version {generator['version']!r}, seed {generator['seed']}"
    )
    for path, value in _leaves(generator["parameters"]):
        console.print(f"  {path} = {value}")
    console.print(f"\n{size(about['row_bytes'])} a sample", _columns(about["columns"]), sep="\n")
    splits = {
        name: {"rows": f"{each['rows']}", "shards": f"{each['shards']}", "bytes": size(each["bytes"])}
        for name, each in about["splits"].items()
    }
    console.print(_table("split", splits))
    for name, table in about["tables"].items():
        console.print(
            f"table {name!r}: {table['rows']} rows, {size(table['bytes'])}",
            _columns(table["columns"]),
            sep="\n",
        )
    statistics = {
        name: {key: f"{value:.5g}" for key, value in each.items()}
        for name, each in about["statistics"].items()
    }
    if statistics:
        console.print(
            "statistics of the train split, over all elements", _table("column", statistics), sep="\n"
        )


def _columns(columns: Sequence[dict[str, Any]]) -> Table:
    rows = {
        column["name"]: {
            "dtype": column["dtype"],
            "shape": " x ".join(map(str, column["shape"])) or "-",
            "unit": column["unit"],
            "role": column["role"],
            "bytes": str(column["bytes"]),
        }
        for column in columns
    }
    return _table("column", rows)


def _table(first: str, rows: dict[str, dict[str, str]]) -> Table:
    """Rows by name that share their keys; numbers to the right."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(first)
    for key in next(iter(rows.values())):
        table.add_column(key, justify="left" if key in ("dtype", "shape", "unit", "role") else "right")
    for name, row in rows.items():
        table.add_row(name, *row.values())
    return table


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Parameters as paths, such as `scene.range_m`, and their values as JSON."""
    if isinstance(value, dict):
        return [
            leaf for key, each in value.items() for leaf in _leaves(each, f"{path}.{key}" if path else key)
        ]
    return [(path, json.dumps(value))]


def _plot(dataset: Dataset, config: Config, overrides: Sequence[str], samples: int, path: Path) -> str:
    """Draw to a file, and say what could not be drawn."""
    # Loading matplotlib takes as long as all the rest of this command.
    from ristune.dataset.plot import draw

    task, reason = task_of(dataset, config, overrides)
    draws = task if isinstance(task, DrawsSamples) else None
    draw(dataset, draws, samples, path)
    if draws is not None:
        return ""
    return f"; no picture of a sample: {reason or f'{type(task).__name__} has no draw_sample'}"


if __name__ == "__main__":
    sys.exit(main())
