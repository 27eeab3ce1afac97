"""Command: measure a checkpoint on a dataset's test split."""

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ristune import cli
from ristune.cells import Cell, parse_cells, title
from ristune.config import Config, restore
from ristune.data.dataset import Dataset
from ristune.data.opening import measured_stream, open_configured
from ristune.errors import InputError
from ristune.overrides import literal
from ristune.page import Figures, Tables, cell_text, require_matplotlib, write
from ristune.training import checkpoint
from ristune.training.device import resolve_device, resolve_precision
from ristune.training.forward import forward
from ristune.training.task import Batch, EvaluatesCells, Output, Task
from ristune.trial import build_task, finite

# Columns of a table that no terminal and no file cuts.
WIDEST = 10_000
EXAMPLES = """\
  python -m ristune.evaluate --checkpoint runs/NAME/best
  python -m ristune.evaluate --checkpoint runs/NAME/best --split val --scenes 500 --out tables.json
  python -m ristune.evaluate --checkpoint runs/NAME/best --report runs/NAME/report
  python -m ristune.evaluate --checkpoint runs/NAME/best --cells snr=0,10,20 k=1,2,3,5 --scenes 100

--cells draws samples anew with the checkpoint's simulator, for every combination of the values given; which
names there are is the task's own choice."""

Predict = Callable[[Batch], tuple[Output, Batch]]


@runtime_checkable
class Evaluates(Protocol):
    """Optional hook of a task: its own tables, and figures."""

    def evaluate(self, batches: Iterable[Batch], predict: Predict, scenes: int) -> "Tables | Illustrated":
        """Rows by table title; the first column of a row is its name."""
        ...


@runtime_checkable
class Illustrated(Protocol):
    """Tables with figures: functions by title that draw on matplotlib axes."""

    tables: Tables
    figures: Figures


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.evaluate`."""
    return cli.run(_main, argv)


def evaluate(
    config: Config,
    directory: Path,
    split: str,
    scenes: int,
    same_data: bool,
    report: Callable[[str], None],
    cells: Sequence[Mapping[str, float]] = (),
) -> tuple[Tables, Figures]:
    """Load a checkpoint strictly and measure it by the task's own hook, or by its metrics.

    Args:
        config: as the checkpoint was trained with, but for what is to be another way.
        directory: the checkpoint's.
        split: of the dataset.
        scenes: how many samples costly measures may use.
        same_data: whether the dataset must be the very one it was trained on.
        report: told of long work, in a line each.
        cells: values of cells by name; samples are drawn for each, and `split` is not read.

    Returns:
        Rows by title, and figures by title.

    Raises:
        InputError: if checkpoint, dataset, cells and configuration do not fit.
    """
    device = resolve_device(config.training.device)
    precision = resolve_precision(config.training.precision, device)
    dataset = open_configured(config.data, report)
    saved = checkpoint.load(directory)
    if same_data and dataset.dataset_id != saved.state["dataset_id"]:
        raise InputError(
            "data.uri",
            config.data.uri,
            f"it must be the dataset of the training, id {saved.state['dataset_id'][:12]}, and has the id "
            f"{dataset.dataset_id[:12]}",
            "give --data to measure on it all the same",
        )
    task = build_task(config, dataset)
    saved.load_into(task.network)
    task.network.to(device).eval()
    predict = partial(_predict, task, precision, device)
    if cells:
        return _parts(_of_cells(config, task, cells, dataset, scenes, device, predict))
    stream = measured_stream(config.data, dataset, split, config.training.batch_size, device)
    if isinstance(task, Evaluates):
        return _parts(task.evaluate(stream.epoch(0), predict, scenes))
    return {f"metrics, {stream.rows} samples of {split}": [_means(task, stream.epoch(0), predict)]}, {}


def _of_cells(
    config: Config,
    task: Task,
    cells: Sequence[Mapping[str, float]],
    dataset: Dataset,
    scenes: int,
    device: torch.device,
    predict: Predict,
) -> Tables | Illustrated:
    if not isinstance(task, EvaluatesCells):
        rule = "the task must have cell_values and evaluate_cells"
        raise InputError("--cells", type(task).__name__, rule, "measure on a split")
    drawn = {title(cell): Cell(config, task, cell, dataset, scenes, device) for cell in cells}
    found: Tables | Illustrated = task.evaluate_cells(drawn, predict, scenes)
    return found


def _parts(found: Tables | Illustrated) -> tuple[Tables, Figures]:
    return (found.tables, found.figures) if isinstance(found, Illustrated) else (found, {})


def _predict(task: Task, precision: str, device: torch.device, batch: Batch) -> tuple[Output, Batch]:
    with torch.no_grad():
        return forward(task, batch, precision, device)


def _means(task: Task, batches: Iterable[Batch], predict: Predict) -> dict[str, Any]:
    values: dict[str, list[torch.Tensor]] = defaultdict(list)
    for batch in batches:
        output, prepared = predict(batch)
        for name, value in task.metrics(output, prepared).items():
            values[name].append(value.cpu())
    return {"": "network", **{name: torch.cat(parts).mean().item() for name, parts in values.items()}}


def render(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of rows that share their keys."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, name in enumerate(rows[0] if rows else ["no rows"]):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell_text(value) for value in row.values()))
    return table


def print_whole(console: Console, table: Table) -> None:
    """Print a table that is wider than the console as it is: cut figures are none."""
    natural = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    console.width = max(console.width, natural)
    console.print(table)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("evaluate", "Measure a checkpoint beside what it must beat.", EXAMPLES)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="folder of a checkpoint"
    )
    parser.add_argument("--data", metavar="DIR", help="dataset (default: the one it was trained on)")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test", help="default: test")
    parser.add_argument(
        "--scenes", type=cli.at_least_one, default=256, metavar="N", help="samples for costly measures (256)"
    )
    parser.add_argument(
        "--cells", nargs="+", default=[], metavar="NAME=V,V", help="measure on samples drawn cell by cell"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the tables as JSON")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="also write report.html, with pictures, and each as PNG"
    )
    arguments = parser.parse_intermixed_args(argv)
    state = checkpoint.load(arguments.checkpoint).state
    data = [f"data.uri={literal(arguments.data)}"] if arguments.data else []
    # What has a dot is a path of the configuration, wherever it stands.
    paths = [text for text in arguments.cells if "." in text.partition("=")[0]]
    cells = parse_cells([text for text in arguments.cells if text not in paths]) if arguments.cells else []
    config = restore(state["source"], [*data, *paths, *arguments.overrides], state["config_dirs"])
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    if arguments.out is not None:
        cli.check_writable("--out", arguments.out.parent)
    if arguments.report is not None:
        require_matplotlib("--report", arguments.report)
        cli.check_writable("--report", arguments.report)
    console = cli.console()
    of = f"{len(cells)} cells" if cells else f"{config.data.uri}, split {arguments.split}"
    with console.status(f"measuring {arguments.checkpoint} on {of}"):
        tables, figures = evaluate(
            config,
            arguments.checkpoint,
            arguments.split,
            arguments.scenes,
            not arguments.data,
            console.print,
            cells,
        )
    for name, rows in tables.items():
        console.print(name)
        print_whole(console, render(rows))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(_json(tables), indent=2, allow_nan=False) + "\n")
        console.print(f"tables written to {arguments.out}")
    if arguments.report is not None:
        command = shlex.join(["python", "-m", "ristune.evaluate", *argv])
        notes = [f"{arguments.checkpoint} on {of}", command]
        heading = f"{config.task['name']}: {arguments.checkpoint}"
        page = write(arguments.report, heading, notes, tables, figures)
        console.print(f"report written to {page}")
    return cli.DONE


def _json(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    return {title: [finite(row) for row in rows] for title, rows in tables.items()}


if __name__ == "__main__":
    sys.exit(main())
