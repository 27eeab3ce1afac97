"""Command: draw a dataset with the task's simulator."""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from ristune import cli
from ristune.config import Config, build, compose
from ristune.data.dataset import open_dataset
from ristune.data.foreign.opening import is_foreign
from ristune.data.manifest import MANIFEST, SPLITS, Manifest
from ristune.data.writing.estimate import Estimate, check_space, estimate
from ristune.data.writing.plan import first_difference, make_plan, survey
from ristune.data.writing.redraw import rewrite_shard
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import Mapper, serial, write_dataset
from ristune.errors import InputError
from ristune.meter import Meter, duration
from ristune.overrides import typed
from ristune.storage.access import Storage, open_storage

EXAMPLES = """\
  python -m ristune.simulate --out data/nearfield
  python -m ristune.simulate --out data/small --train 1024 --val 256 --test 256
  python -m ristune.simulate --out data/rayleigh 'simulator.channel.kappa=[0,0]'
  python -m ristune.simulate --out data/large --train 1000000 --workers 16       # on 16 cores
  python -m ristune.simulate --out data/nearfield --shard train/00001.parquet    # only this one, after damage

a command that was interrupted goes on where it stopped when it is given again"""


# What a simulator of a user's own must have.
SIMULATOR = ("name", "version", "columns", "parameters", "tables", "draw", "sizes", "seed")


def simulate(
    config: Config,
    uri: str,
    console: Console,
    workers: int = 1,
    address: str | None = None,
    shard_rows: int | None = None,
) -> Manifest:
    """Draw a dataset: say what it will take, show how far it is, say what it took.

    Args:
        config: its simulator is used.
        uri: where to write it; a dataset left unfinished there is continued.
        console: where to say so.
        workers: processes; more than one run on Ray.
        address: of a Ray cluster, all of whose nodes reach `uri`; None is this machine.
        shard_rows: samples in a shard; by default what makes about 128 MiB.

    Raises:
        InputError: if the task has no simulator, the place cannot be written, is short of space, or holds
            another dataset.
    """
    source = _source(config, shard_rows)
    plan = make_plan(source)
    storage = open_storage(uri)
    there = survey(storage, plan)
    if there:
        console.print(f"{uri}: {len(there)} of {len(plan.parts)} shards are there already, going on")
    missing = [part for part in plan.parts if part not in there]
    samples = sum(part.rows for part in missing)
    if missing:
        workers = min(workers, len(missing))
        expected = estimate(source, missing)
        check_space(storage, expected.size)
        console.print(_announce(uri, expected, storage, workers))
    with Meter(console, f"simulating {uri}", samples) as meter, _mapper(workers, address) as mapper:
        manifest = write_dataset(uri, source, mapper, meter.advance)
        console.print(_summary(uri, manifest, meter))
    return manifest


def _source(config: Config, shard_rows: int | None = None) -> Simulated:
    """The configured simulator, as a source of samples."""
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
    return Simulated(simulator, simulator.sizes, simulator.seed, shard_rows)


@contextmanager
def _mapper(workers: int, address: str | None) -> Iterator[Mapper]:
    if workers == 1 and address is None:
        yield serial
        return
    # Ray takes a second to import: one process does without.
    from ristune.parallel import pool

    with pool(workers, address) as mapper:
        yield mapper


def _announce(uri: str, expected: Estimate, storage: Storage, workers: int) -> str:
    free = storage.free_bytes()
    space = "" if free is None else f" ({_bytes(free)} are free)"
    by = "1 process" if workers == 1 else f"{workers} processes"
    return (
        f"simulating {uri}: {expected.samples} samples of {_bytes(expected.sample_bytes)} in "
        f"{expected.shards} shards, {_bytes(expected.size)}{space}; "
        f"about {duration(expected.seconds(workers))} with {by}"
    )


def _summary(uri: str, manifest: Manifest, meter: Meter) -> str:
    size = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    rows = ", ".join(f"{manifest.splits[name].rows} {name}" for name in SPLITS if name in manifest.splits)
    took = f"{duration(meter.seconds)}, {meter.rate:.0f} samples/s"
    return f"{uri}: {rows}, {_bytes(size)}, id {manifest.dataset_id[:12]}; {took}"


def _bytes(size: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} bytes"


def ensure_dataset(config: Config, console: Console) -> None:
    """Simulate the dataset of `data.uri` if it is local and not there; check overrides if it is.

    Raises:
        InputError: if it is remote and missing, or was drawn with other values than the overrides ask for.
    """
    uri = config.data.uri
    storage = open_storage(uri, "data.uri")
    if is_foreign(storage):
        console.print(open_dataset(uri).hint)
    elif not storage.exists(MANIFEST):
        if storage.directory is None:
            rule = "a remote dataset must exist"
            remedy = "correct the URI, or write it there with simulate --out"
            raise InputError("data.uri", storage.uri, rule, remedy)
        console.print(f"{uri} does not exist yet: simulating it")
        simulate(config, uri, console)
        return
    asked = [text for text in config.overrides if text.startswith(("simulator", "task."))]
    # A space may search what only the overrides make.
    others = [text for text in config.overrides if text not in asked and not text.startswith("space")]
    untouched = compose(others, config.config_dirs)
    # Only what was asked for is held against the dataset: it may have been drawn with other defaults.
    if config.simulator is not None and config.simulator != untouched.simulator:
        simulator = build(config.simulator)
        manifest = open_dataset(uri).manifest
        stored = {
            "parameters": manifest.generator.parameters,
            "seed": manifest.generator.seed,
            "rows": {name: split.rows for name, split in manifest.splits.items()},
        }
        wanted = {
            "parameters": simulator.parameters(),
            "seed": simulator.seed,
            "rows": {name: rows for name, rows in simulator.sizes.items() if rows},
        }
        difference = first_difference(wanted, stored)
        if difference:
            raise InputError(
                "data.uri",
                uri,
                f"it was simulated with other values than {' '.join(asked)} ({difference})",
                "give data.uri=NEW_FOLDER to simulate anew, or drop the override",
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.simulate`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("simulate", "Draw a dataset with the task's simulator.", EXAMPLES)
    parser.add_argument("--out", metavar="DIR", help="where to write it (default: data.uri)")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=cli.at_least_one, metavar="N", help=f"samples of {split}")
    parser.add_argument("--workers", type=cli.at_least_one, metavar="W", help="processes (default: 1)")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="of a running Ray cluster, or auto (default: this machine)"
    )
    parser.add_argument(
        "--shard-rows", type=cli.at_least_one, metavar="N", help="samples in a shard (default: about 128 MiB)"
    )
    parser.add_argument(
        "--shard",
        metavar="PATH",
        help="write only this shard or side table again, if the bytes are the same",
    )
    arguments = parser.parse_intermixed_args(argv)
    if arguments.shard is not None:
        _check_alone(arguments)
    sizes = {split: getattr(arguments, split) for split in SPLITS}
    config = cli.configure(arguments, [f"simulator.{k}={v}" for k, v in sizes.items() if v is not None])
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    console = cli.console()
    uri = arguments.out or config.data.uri
    if arguments.shard is not None:
        shard = rewrite_shard(uri, _source(config), arguments.shard)
        console.print(f"{uri}/{shard.path}: written again, {shard.rows} rows, sha256 {shard.sha256[:12]}")
        return cli.DONE
    simulate(config, uri, console, arguments.workers or 1, arguments.address, arguments.shard_rows)
    again = [text for text in arguments.overrides if not text.startswith(("data.uri=", "simulator"))]
    folders = [part for folder in arguments.config_dir for part in ("--config-dir", folder)]
    command = ["python", "-m", "ristune.train", *again, *folders, typed("data.uri", uri)]
    console.print(f"train on it: {shlex.join(command)}")
    return cli.DONE


def _check_alone(arguments: argparse.Namespace) -> None:
    """Refuse options that say how a whole dataset is written beside `--shard`."""
    for name in (*SPLITS, "workers", "address", "shard_rows"):
        value = getattr(arguments, name)
        if value is not None:
            rule = "it is of no effect beside --shard, whose rows the dataset says"
            raise InputError(f"--{name.replace('_', '-')}", value, rule, "leave out one of the two")


if __name__ == "__main__":
    sys.exit(main())
