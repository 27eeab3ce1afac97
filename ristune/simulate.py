"""Command: draw a dataset with the task's simulator."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ristune import cli
from ristune.config import Config, build, compose
from ristune.data.dataset import open_dataset
from ristune.data.manifest import MANIFEST, SPLITS, Manifest
from ristune.data.source import Simulated
from ristune.data.storage import open_storage
from ristune.data.writer import write_dataset
from ristune.errors import InputError
from ristune.overrides import literal

EXAMPLES = """\
  python -m ristune.simulate --out data/nearfield
  python -m ristune.simulate --out data/small --train 1024 --val 256 --test 256
  python -m ristune.simulate --out data/rayleigh 'simulator.channel.kappa=[0,0]'"""


# What a simulator of a user's own must have.
SIMULATOR = ("name", "version", "columns", "parameters", "tables", "draw", "sizes", "seed")


def simulate(config: Config, uri: str, console: Console) -> Manifest:
    """Draw a dataset with a progress bar.

    Raises:
        InputError: if the task has no simulator, the place cannot be written or holds a dataset.
    """
    if config.simulator is None:
        raise InputError(
            "simulator",
            None,
            f"the task {config.task['name']!r} has none, so its dataset must exist",
            "set data.uri to a dataset, or add simulator/NAME.yaml beside the task's YAML",
        )
    simulator = build(config.simulator)
    missing = [name for name in SIMULATOR if not hasattr(simulator, name)]
    if missing:
        raise InputError(
            "simulator",
            type(simulator).__name__,
            f"it must have {', '.join(SIMULATOR)}; missing: {', '.join(missing)}",
            "add them to the class",
        )
    sizes: Mapping[str, int] = simulator.sizes
    columns = (
        TextColumn("simulating {task.fields[uri]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("simulate", total=sum(sizes.values()), uri=uri)
        advance = partial(progress.advance, bar)
        return write_dataset(uri, Simulated(simulator, sizes, simulator.seed), progress=advance)


def ensure_dataset(config: Config, console: Console) -> None:
    """Simulate the dataset of `data.uri` if it is local and not there; check overrides if it is.

    Raises:
        InputError: if it is remote and missing, or was drawn with other values than the overrides ask for.
    """
    uri = config.data.uri
    if not open_storage(uri).exists(MANIFEST):
        console.print(f"{uri} does not exist yet: simulating it")
        simulate(config, uri, console)
        return
    asked = [text for text in config.overrides if text.startswith(("simulator", "task."))]
    untouched = compose([text for text in config.overrides if text not in asked], config.config_dirs)
    # Only what was asked for is held against the dataset: it may have been drawn with other defaults.
    if config.simulator is not None and config.simulator != untouched.simulator:
        simulator = build(config.simulator)
        manifest = open_dataset(uri).manifest
        stored = {
            "parameters": manifest.generator.parameters,
            "seed": manifest.generator.seed,
            "rows": {name: split.rows for name, split in manifest.splits.items()},
        }
        wanted = {"parameters": simulator.parameters(), "seed": simulator.seed, "rows": simulator.sizes}
        difference = _first_difference(wanted, stored)
        if difference:
            raise InputError(
                "data.uri",
                uri,
                f"it was simulated with other values than {' '.join(asked)} ({difference})",
                "give data.uri=NEW_FOLDER to simulate anew, or drop the override",
            )


def _first_difference(wanted: Any, stored: Any, path: str = "") -> str:
    if isinstance(wanted, Mapping) and isinstance(stored, Mapping):
        for key in [*wanted, *(k for k in stored if k not in wanted)]:
            found = _first_difference(wanted.get(key), stored.get(key), f"{path}.{key}" if path else str(key))
            if found:
                return found
        return ""
    same = list(wanted) == list(stored) if isinstance(wanted, (list, tuple)) else wanted == stored
    return "" if same else f"{path}: {stored!r} there, {wanted!r} asked"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.simulate`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("simulate", "Draw a dataset with the task's simulator.", EXAMPLES)
    parser.add_argument("--out", metavar="DIR", help="where to write it (default: data.uri)")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=cli.at_least_one, metavar="N", help=f"samples of {split}")
    arguments = parser.parse_intermixed_args(argv)
    sizes = {split: getattr(arguments, split) for split in SPLITS}
    config = cli.configure(arguments, [f"simulator.{k}={v}" for k, v in sizes.items() if v is not None])
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    console = cli.console()
    uri = arguments.out or config.data.uri
    manifest = simulate(config, uri, console)
    size = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    rows = ", ".join(f"{manifest.splits[name].rows} {name}" for name in SPLITS if name in manifest.splits)
    console.print(f"{uri}: {rows}, {size / 1e6:.1f} MB, id {manifest.dataset_id[:12]}")
    again = [text for text in arguments.overrides if not text.startswith(("data.uri=", "simulator"))]
    folders = [part for folder in arguments.config_dir for part in ("--config-dir", folder)]
    command = ["python", "-m", "ristune.train", *again, *folders, f"data.uri={literal(uri)}"]
    console.print(f"train on it: {shlex.join(command)}")
    return cli.DONE


if __name__ == "__main__":
    sys.exit(main())
