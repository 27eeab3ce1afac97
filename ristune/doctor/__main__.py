"""Command: whether a training is sound, before hours are spent on it."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ristune import cli
from ristune.config import Config, build
from ristune.doctor.bench import Bench, with_dataset
from ristune.doctor.check import Check, choose, examine
from ristune.doctor.cluster import CLUSTER_PURPOSES, add_cluster, examine_cluster
from ristune.doctor.outcome import Fault, Verdict, attempt
from ristune.doctor.provenance import origins, render
from ristune.doctor.registry import CHECKS
from ristune.doctor.replay import describe, replay
from ristune.doctor.table import Table
from ristune.errors import InputError
from ristune.training.device import resolve_device

EXAMPLES = """\
  python -m ristune.doctor
  python -m ristune.doctor space=wide training.precision=bf16
  python -m ristune.doctor --only gradients --only loss-terms
  python -m ristune.doctor --from runs/NAME/best.yaml
  python -m ristune.doctor --replay runs/NAME/diverged    # what made a training diverge
  python -m ristune.doctor task=mine space=mine --config-dir my_configs   # a task of your own
  python -m ristune.doctor --cluster ray_cluster.yaml     # a cluster's file, without touching a cloud
  python -m ristune.doctor --cluster ray_cluster.yaml output=s3://BUCKET/runs data.uri=s3://BUCKET/data \\
    sweep.concurrency=8                                   # and whether it carries that sweep
  ray exec ray_cluster.yaml 'cd ristune && RAY_AUTH_MODE=token ~/env/bin/python -m ristune.doctor \\
    --cluster ray_cluster.yaml --live output=s3://BUCKET/runs'   # its running nodes, from a laptop"""
PURPOSE = """\
Check a training before hours are spent on it: data, learning, consistency, and what a search would do, on
a few samples and in a few minutes. Prints a row for each check and, last, where each value of the
configuration came from. Ends with status 0 if no check fails, 1 if one does.

With --cluster: check a Ray cluster file, as `ray up` takes it, and nothing else; no cloud is asked. What
the sweep will have (output, data.uri, sweep.concurrency, ...) is held against it where it is given. With
--live as well: check the nodes that run, from one of them.

With --replay: run a window that was not finite again and name the operation that made it so; nothing else."""
# Not a check: it passes no judgement.
CONFIG = "config"
PURPOSES = {check.name: check.purpose for check in CHECKS} | {
    CONFIG: "where each value of the configuration came from (printed last)"
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.doctor`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("doctor", PURPOSE, EXAMPLES)
    cli.add_from(parser, "check a sweep's best values")
    parser.add_argument(
        "--only", action="append", default=[], metavar="CHECK", help="run this check; may be repeated"
    )
    parser.add_argument(
        "--replay", type=Path, metavar="DIR", help="name what was not finite: the `diverged` of a training"
    )
    add_cluster(parser)
    parser.add_argument("--list", action="store_true", help="name the checks, a line each, and exit")
    arguments = parser.parse_intermixed_args(argv)
    purposes = PURPOSES if arguments.cluster is None else CLUSTER_PURPOSES
    if arguments.list:
        width = max(map(len, purposes))
        print("\n".join(f"{name:{width}}  {purpose}" for name, purpose in purposes.items()))
        return cli.DONE
    if arguments.replay is not None:
        return _replay(arguments)
    if arguments.cluster is not None or arguments.live or arguments.address:
        return examine_cluster(arguments)
    chosen = choose(list(PURPOSES), arguments.only)
    config, more = cli.configure_from(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    console = cli.console()
    checks = [check for check in CHECKS if check.name in chosen]
    status = _examine_all(config, checks, console) if checks else cli.DONE
    if CONFIG in chosen:
        console.print("configuration: value and where it came from")
        for line in render(origins(config, more, arguments.best)):
            console.print(f"  {line}")
    return status


def _replay(arguments: argparse.Namespace) -> int:
    """Run a window that was not finite again; 0 if a cause was found."""
    for name in ("best", "only", "config_dir", "cluster"):
        value = getattr(arguments, name)
        if value:
            option = "--from" if name == "best" else f"--{name.replace('_', '-')}"
            rule = "it is of no effect beside --replay, which has its configuration from the folder"
            raise InputError(option, value, rule, "leave out one of the two")
    console = cli.console()
    replayed = replay(arguments.replay, arguments.overrides, console.print)
    for line in describe(replayed):
        console.print(line)
    return cli.DONE if replayed.reproduced else cli.FAILED


def _examine_all(config: Config, checks: Sequence[Check], console: Console) -> int:
    _refuse_bad_input(config)
    table = Table(console, [check.name for check in checks])
    with tempfile.TemporaryDirectory(prefix="ristune-doctor-") as name:
        folder = Path(name)
        bench = Bench(with_dataset(config, folder, console), folder, console.print)
        for check in checks:
            started = time.monotonic()
            with console.status(check.name):
                outcome = examine(check, bench)
            table.row(check.name, outcome, time.monotonic() - started)
    return cli.FAILED if table.end()[Verdict.FAIL] else cli.DONE


def _refuse_bad_input(config: Config) -> None:
    """Refuse a device or a task's values before anything is made, as other commands do.

    Raises:
        InputError: naming the value.
    """
    resolve_device(config.training.device)
    # An exception of the task's own code is a check's to report.
    built = attempt(lambda: build(config.task))
    if isinstance(built, Fault) and isinstance(built.error, InputError):
        raise built.error


if __name__ == "__main__":
    sys.exit(main())
