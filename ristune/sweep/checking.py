"""What is wrong with a sweep whatever it runs on, found before anything is started."""

import argparse
import re
import time

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.knowledge import Knowledge, read_known, read_points
from ristune.sweep.shares import check_resource
from ristune.sweep.space import Space
from ristune.sweep.space_parsing import parse_space


def check(arguments: argparse.Namespace, config: Config) -> tuple[Space, Knowledge]:
    """The space, and what is known before the first trial.

    Args:
        arguments: of the command line.
        config: of the sweep.

    Raises:
        InputError: if either is refused, or what makes trials stop is.
    """
    check_resource(config)
    space = parse_space(config)
    _check_grace(config)
    knowledge = Knowledge(
        [point for path in arguments.enqueue or () for point in read_points(path, space)],
        [read_known(path, space, config) for path in arguments.warm_start or ()],
    )
    return space, knowledge


def sweep_name(given: str | None, config: Config) -> str:
    """The name of a new sweep: as given, or made of task and time.

    Raises:
        InputError: if it is none for a folder.
    """
    name = given or f"{config.task['name']}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError("--name", name, "it must be letters, digits, '.', '_' and '-'", "choose another")
    return name


def check_resumption(arguments: argparse.Namespace) -> None:
    """Refuse what a sweep that goes on has been given already.

    Raises:
        InputError: naming it.
    """
    given = {
        "--name": arguments.name,
        "--config-dir": arguments.config_dir or None,
        "--warm-start": arguments.warm_start,
    }
    for option, value in given.items():
        if arguments.resume is not None and value is not None:
            rule = "a sweep is resumed in its own folder, with its own configuration and knowledge"
            raise InputError(option, str(value), rule, f"leave out {option}, or start anew without --resume")


def _check_grace(config: Config) -> None:
    if config.sweep.resource == "epochs" and config.sweep.grace > config.training.epochs:
        raise InputError(
            "sweep.grace",
            config.sweep.grace,
            f"it must be at most training.epochs ({config.training.epochs})",
            "lower it, or train for longer",
        )
