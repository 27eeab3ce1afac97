"""What the commands share: arguments and overrides in any order, and exit codes."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from ristune.dispatch import BAD_INPUT as BAD_INPUT
from ristune.dispatch import DONE as DONE
from ristune.errors import InputError

if TYPE_CHECKING:
    from ristune.config import Config

FAILED, INTERRUPTED = 1, 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are InputErrors' kin: message on stderr, exit 2, options anywhere."""

    def __init__(self, command: str, description: str, examples: str, configured: bool = True) -> None:
        overrides = (
            "overrides: GROUP=CHOICE or PATH=VALUE, anywhere on the line, the last of two wins; "
            "--show-config prints every path.\n"
        )
        super().__init__(
            prog=f"python -m ristune.{command}",
            description=description,
            epilog=f"examples:\n{examples}\n\n{overrides if configured else ''}"
            "exit status: 0 done, 1 the run failed, 2 bad input, 130 interrupted.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if not configured:
            return
        self.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="overrides of the configuration")
        self.add_argument(
            "--config-dir",
            action="append",
            default=[],
            metavar="DIR",
            help="folder with YAML groups of your own (task/, space/, ...); may be repeated",
        )
        self.add_argument(
            "--show-config", action="store_true", help="print the resolved configuration and exit"
        )


def at_least_one(text: str) -> int:
    """An integer from 1, as an argparse type.

    Raises:
        argparse.ArgumentTypeError: saying the rule.
    """
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; it must be an integer of at least 1")
    return int(text)


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command's main: bad input and Ctrl-C end with one message and their exit status."""
    try:
        status = main(sys.argv[1:] if argv is None else argv)
        # What a pipe refuses is known here, not when Python ends.
        sys.stdout.flush()
        return status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whom it was for, such as `head`, has read enough; what is left has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def configure(arguments: argparse.Namespace, more: Sequence[str] = ()) -> "Config":
    """The configuration of a command line.

    Args:
        arguments: as parsed by `Parser`.
        more: overrides that come before the command line's.
    """
    # Loading it takes longer than all that a command without a configuration does.
    from ristune.config import compose

    return compose([*more, *arguments.overrides], arguments.config_dir)


def add_from(parser: Parser, purpose: str) -> None:
    """Add `--from`, which `configure_from` reads.

    Args:
        parser: of the command.
        purpose: what the command does with a sweep's best values.
    """
    parser.add_argument("--from", dest="best", type=Path, metavar="best.yaml", help=purpose)


def configure_from(arguments: argparse.Namespace) -> tuple["Config", list[str]]:
    """The configuration of a command line with `--from`, and the overrides that come from there.

    Raises:
        InputError: if the file cannot be read, or as `compose`.
    """
    if arguments.best is None:
        return configure(arguments), []
    more, directories = _read_best(arguments.best)
    arguments.config_dir = [*directories, *arguments.config_dir]
    return configure(arguments, more), more


def check_writable(option: str, directory: Path) -> None:
    """Try an output folder and leave no trace, so that one that cannot be written is known before any work.

    Raises:
        InputError: if it cannot be made or written.
    """
    new = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    probe = directory / ".ristune-writable"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        for folder in new:
            folder.rmdir()
    except OSError as error:
        raise InputError(
            option,
            str(directory),
            f"it must be a folder that can be written ({error.strerror})",
            "choose another",
        ) from error


def console() -> Console:
    """Where commands print: nothing is wrapped, coloured or read as markup, so that lines can be copied."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def show(values: dict[str, Any]) -> str:
    """The configuration as YAML."""
    return yaml.safe_dump(values, sort_keys=False)


def _read_best(path: Path) -> tuple[list[str], list[str]]:
    """Overrides and configuration folders of a `best.yaml`.

    Raises:
        InputError: if the file cannot be read as one.
    """
    try:
        content = yaml.safe_load(path.read_text())
        overrides, config_dirs = content["overrides"], content["config_dirs"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise InputError(
            "--from",
            str(path),
            f"it must be a YAML file with 'overrides' and 'config_dirs' ({type(error).__name__}: {error})",
            "give the best.yaml of a sweep, runs/NAME/best.yaml",
        ) from error
    return [str(text) for text in overrides], [str(text) for text in config_dirs]
