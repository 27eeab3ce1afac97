"""The nodes of a running cluster, held against each other and against its file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ristune.cluster.cluster_file import view
from ristune.cluster.facts import (
    Expected,
    answers,
    cache_space,
    clock,
    describe,
    gpus,
    software,
    storage,
)
from ristune.cluster.finding import Judged
from ristune.cluster.probe import versions
from ristune.config import Config
from ristune.storage.access import open_storage

CHECKS = {
    "nodes": answers,
    "software": software,
    "gpus": gpus,
    "clock": clock,
    "storage": storage,
    "cache-space": cache_space,
}
LIVE_PURPOSES = {
    "nodes": "every node that is to be there has joined, and answers",
    "software": "all nodes run the same Ray, Python, torch and ristune",
    "gpus": "torch sees every GPU that Ray gives to trials",
    "clock": "clocks agree with the head's, measured by round trips",
    "storage": "every node writes and reads the sweep's output (8 MiB, removed), and sees what others wrote",
    "cache-space": "every worker has room for the dataset",
}


def examine_nodes(
    config: Config,
    document: Mapping[str, Any],
    address: str,
    output: str | None,
    dataset_bytes: int | None,
    chosen: Sequence[str],
    console: Console,
) -> Iterator[tuple[str, Judged]]:
    """Ask all nodes, print a line of each, and judge.

    Args:
        config: what the sweep will have.
        document: the cluster's file.
        address: of the cluster.
        output: where the sweep writes; None if nobody has said.
        dataset_bytes: of the decoded dataset; None if it is not known.
        chosen: names of the checks.
        console: where the lines go.

    Yields:
        The name of a check and what it has come to.

    Raises:
        InputError: if no cluster answers.
    """
    # Ray takes a second to import: bad input is found before.
    from ristune.cluster.live import look

    cluster = view(Path(), document)
    place = open_storage(output, "output") if output is not None and "storage" in chosen else None
    with console.status("nodes"):
        nodes = look(address, place, config.data)
    for node in nodes:
        console.print(describe(node))
    least = 1 + sum(worker.min_workers for worker in cluster.workers)
    expected = Expected(
        versions=versions(),
        hosts=cluster.hosts,
        least=least if not cluster.hosts else 1,
        output=None if place is None else place.uri,
        dataset_bytes=None if config.data.mode == "windowed" else dataset_bytes,
    )
    for name in chosen:
        yield name, CHECKS[name](nodes, expected)
