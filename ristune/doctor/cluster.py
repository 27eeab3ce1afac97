"""Whether a cluster file is sound, and whether the nodes of a cluster that runs are."""

import argparse
import importlib.metadata
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from ristune import cli
from ristune.cluster.asked import Asked, shipped
from ristune.cluster.checks.registry import RULES
from ristune.cluster.checks.schema import schema
from ristune.cluster.cluster_file import ClusterFile, read_document, view
from ristune.cluster.finding import Judged, Severity, judged, unknown
from ristune.config import Config
from ristune.data.dataset import open_dataset
from ristune.doctor.check import choose
from ristune.doctor.nodes import LIVE_PURPOSES, examine_nodes
from ristune.doctor.outcome import Outcome, Verdict, passed, skipped
from ristune.doctor.provenance import DEFAULT, origins
from ristune.doctor.table import Table
from ristune.errors import InputError

SCHEMA = "schema"
FILE_PURPOSES = {SCHEMA: "Ray's own validation takes the file"} | {rule.name: rule.purpose for rule in RULES}
CLUSTER_PURPOSES = FILE_PURPOSES | {name: f"(--live) {text}" for name, text in LIVE_PURPOSES.items()}
VERDICTS = {Severity.ERROR: Verdict.FAIL, Severity.WARNING: Verdict.WARN}


def add_cluster(parser: cli.Parser) -> None:
    """Add the options of a check of a cluster."""
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="check this Ray cluster file instead, and what it ships"
    )
    parser.add_argument(
        "--live", action="store_true", help="with --cluster: check the nodes that run, instead of the file"
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="with --live: of the cluster (default: auto, the one of this node)",
    )


def examine_cluster(arguments: argparse.Namespace) -> int:
    """Check the file, or the nodes, of a cluster; a row a finding.

    Raises:
        InputError: if the options do not fit each other, or the file or an override is refused.
    """
    if arguments.cluster is None:
        option, value = ("--live", True) if arguments.live else ("--address", arguments.address)
        raise InputError(option, value, "it goes with --cluster", "give the cluster's file: --cluster FILE")
    if arguments.address and not arguments.live:
        rule = "a file is checked without its cluster"
        raise InputError("--address", arguments.address, rule, "add --live, or leave it out")
    chosen = choose(list(LIVE_PURPOSES if arguments.live else FILE_PURPOSES), arguments.only)
    document = read_document(arguments.cluster)
    config, more = cli.configure_from(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    console = cli.console()
    given = {each.path for each in origins(config, more, arguments.best) if DEFAULT not in each.source}
    table = Table(console, chosen)
    if arguments.live:
        output = config.output if "output" in given else None
        size, _ = _dataset(config)
        address = arguments.address or "auto"
        rows = examine_nodes(config, document, address, output, size, chosen, console)
    else:
        rows = _examine_file(arguments.cluster, document, config, given, chosen, console)
    started = time.monotonic()
    for name, found in rows:
        seconds, started = time.monotonic() - started, time.monotonic()
        for outcome in _outcomes(found):
            table.row(name, outcome, seconds)
    return cli.FAILED if table.end()[Verdict.FAIL] else cli.DONE


def _examine_file(
    path: Path,
    document: dict[str, object],
    config: Config,
    given: set[str],
    chosen: list[str],
    console: Console,
) -> Iterator[tuple[str, Judged]]:
    """The checks of the file; those that read what Ray has refused cannot be made."""
    with console.status(SCHEMA):
        refused = schema(document)
    if SCHEMA in chosen:
        yield SCHEMA, judged(refused, f"Ray {importlib.metadata.version('ray')} takes {path}")
    rules = [rule for rule in RULES if rule.name in chosen]
    if refused:
        yield from ((rule.name, unknown("it needs a file that Ray takes: see schema")) for rule in rules)
        return
    cluster = view(path, document)
    # Only its size is asked for, and a store that is far away takes its time to refuse.
    sized = "cache-disk" in chosen and config.data.mode != "windowed"
    with console.status("data.uri"):
        size, note = _dataset(config) if sized else (None, "")
    asked = _asked(config, given, cluster, size, note)
    for rule in rules:
        yield rule.name, rule.run(cluster, asked)


def _asked(config: Config, given: set[str], cluster: ClusterFile, size: int | None, note: str) -> Asked:
    """What the configuration asks of the cluster; what it leaves to ristune's defaults is not asked."""
    major, minor, _ = platform.python_version_tuple()
    device = config.training.device
    return Asked(
        output=config.output if "output" in given else None,
        data_uri=config.data.uri if "data.uri" in given else None,
        concurrency=config.sweep.concurrency,
        on_gpu=None if device == "auto" else device != "cpu",
        cpus=max(1, config.sweep.cpus_per_trial),
        gpu=config.sweep.gpu_per_trial,
        dataset_bytes=size,
        dataset_note=note,
        cached=config.data.mode != "windowed",
        cache_disk_gb=config.data.cache_disk_gb,
        ray=importlib.metadata.version("ray"),
        python=f"{major}.{minor}",
        shipped=shipped(cluster, Path.cwd()),
    )


def _dataset(config: Config) -> tuple[int | None, str]:
    """The decoded size of the dataset and its place; or why there is none."""
    try:
        dataset = open_dataset(config.data.uri)
    # It may be of no use from here, or be made on the cluster: that is said, and is no fault of the file.
    except InputError as refused:
        return None, f"{config.data.uri} ({refused.rule})"
    return dataset.decoded_bytes, config.data.uri


def _outcomes(found: Judged) -> list[Outcome]:
    if found.findings:
        return [Outcome(VERDICTS[each.severity], each.text, each.remedy) for each in found.findings]
    return [passed(found.said) if found.known else skipped(found.said)]
