"""What is submitted to a cluster: the options for it, and the command that its head runs, checked here."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ristune import cli
from ristune.cluster import capacity
from ristune.errors import InputError
from ristune.storage.location import SETTINGS, parse_location, within
from ristune.sweep.finding import is_remote

if TYPE_CHECKING:
    from ristune.cluster.launcher import ClusterFile
    from ristune.cluster.luggage import Luggage
    from ristune.config import Config

# Options that mean something with --cluster only.
OPTIONS = ("attach", "stop", "down", "shared")


@dataclass(frozen=True)
class Order:
    """A sweep as it is to be submitted, checked.

    Attributes:
        name: of the sweep.
        output: its folder, as the cluster sees it.
        words: arguments of the command on the head, but those that name what travels.
        settings: values of the configuration that the cluster decides; the words have them too.
        config_dirs: the user's configuration folders; they travel.
        enqueue: files with points; they travel.
        warm_start: folders of sweeps; their journals travel.
        describe: what it is, for people.
    """

    name: str
    output: str
    words: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    config_dirs: tuple[str, ...] = ()
    enqueue: tuple[Path, ...] = ()
    warm_start: tuple[Path, ...] = ()
    describe: str = ""


def add_options(parser: cli.Parser) -> None:
    """Add the options of a cluster to the search's."""
    group = parser.add_argument_group("on a cluster, from this machine")
    group.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        help="submit the sweep to the cluster of this file of `ray up`, which is started if it is not up",
    )
    group.add_argument("--attach", metavar="NAME", help="follow a sweep there again, and fetch its results")
    group.add_argument("--stop", metavar="NAME", help="stop a sweep there cleanly, and fetch its results")
    group.add_argument("--down", action="store_true", help="take the cluster down once the results are here")
    group.add_argument(
        "--shared", action="store_true", help="all nodes have the folders `output` and `data.uri` in common"
    )


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: naming them.
    """
    given = [f"--{word}" for word in ("attach", "stop", "resume", "address") if getattr(arguments, word)]
    if arguments.cluster is None:
        alone = [f"--{word}" for word in OPTIONS if getattr(arguments, word)]
        if alone:
            rule = "which cluster is meant must be said"
            raise InputError(alone[0], "", rule, "give its file: --cluster ray_cluster.yaml")
    elif "--address" in given:
        rule = "with --cluster the sweep is submitted to the head, which knows its address"
        raise InputError("--address", arguments.address, rule, "leave out --address or --cluster")
    elif len(given) > 1:
        raise InputError(given[1], "", f"it does not go with {given[0]}", "leave one of them out")


def order(
    arguments: argparse.Namespace, config: "Config", cluster: "ClusterFile", name: str, trials: int
) -> Order:
    """What is submitted for a new sweep.

    Args:
        arguments: of the command line.
        config: of the sweep.
        cluster: where it is to run.
        name: of the sweep.
        trials: in total.

    Raises:
        InputError: if `output` or `data.uri` mean nothing there, or its file does not say what it carries.
    """
    _check_place("output", config.output, arguments.shared)
    _check_place("data.uri", config.data.uri, arguments.shared)
    decided = settings(cluster.content, config, trials)
    words = ["--name", name, "--trials", str(trials), *arguments.overrides]
    at_once = decided.get("sweep.concurrency", min(config.sweep.concurrency, trials))
    return Order(
        name,
        below(config.output, name),
        (*words, *(f"{path}={value}" for path, value in decided.items())),
        decided,
        tuple(str(Path(path).resolve()) for path in arguments.config_dir),
        tuple(arguments.enqueue or ()),
        tuple(arguments.warm_start or ()),
        f"{trials} trials, {at_once} at once when all workers are there",
    )


def settings(content: Mapping[str, Any], config: "Config", trials: int) -> dict[str, Any]:
    """What is left to the cluster: trials at once, and what they train on.

    Args:
        content: of the cluster file.
        config: of the sweep.
        trials: in total.

    Raises:
        InputError: if the cluster file does not say.
    """
    found: dict[str, Any] = {}
    on, sweep = config.training.device, config.sweep
    if on == "auto":
        on = found["training.device"] = capacity.device(capacity.kinds(content))
    if not sweep.concurrency:
        found["sweep.concurrency"] = capacity.concurrency(
            content, on, sweep.cpus_per_trial, sweep.gpu_per_trial, trials
        )
    return found


def resumption(arguments: argparse.Namespace) -> Order:
    """What is submitted for a sweep that goes on.

    Raises:
        InputError: if its folder means nothing on the cluster.
    """
    place = str(arguments.resume)
    _check_place("--resume", place, arguments.shared)
    words = ["--resume", place]
    words += [] if arguments.trials is None else ["--trials", str(arguments.trials)]
    name = place.partition("?")[0].rstrip("/").rpartition("/")[2]
    points = tuple(arguments.enqueue or ())
    return Order(name, place, (*words, *arguments.overrides), enqueue=points, describe="it goes on")


def below(place: str, name: str) -> str:
    """A sweep's folder in that of sweeps; settings of a URI stay at its end."""
    return within(place, name, "output") if is_remote(place) else f"{place.rstrip('/')}/{name}"


def travelling(luggage: "Luggage", what: Order) -> list[str]:
    """Arguments that name files and folders, as they are called on the head."""
    words = []
    for directory in what.config_dirs:
        words += ["--config-dir", luggage.add(Path(directory))]
    for path in what.enqueue:
        words += ["--enqueue", luggage.add(path)]
    for path in what.warm_start:
        words += ["--warm-start", luggage.add(path, ["journal/events.jsonl"])]
    return words


def _check_place(name: str, place: str, shared: bool) -> None:
    """Refuse a folder that would be another one on each node."""
    if place.partition("://")[0] in SETTINGS:
        parse_location(place, name)
        return
    if not shared:
        rule = "on a cluster it must be in an object store, or in a folder that all nodes share"
        raise InputError(
            name, place, rule, f"give {name}=s3://..., or say --shared if all nodes have it there"
        )
    if not place.removeprefix("file://").startswith("/"):
        rule = "a folder that all nodes share has the same absolute path on each"
        raise InputError(name, place, rule, "give the whole path")
