"""What the commands on datasets share: sizes in words, progress, and the task that a dataset is of."""

import re
from argparse import Namespace
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ristune.config import Config
from ristune.data.dataset import Dataset
from ristune.data.manifest import SPLITS, Manifest
from ristune.errors import InputError
from ristune.training import task as seam
from ristune.trial import build_task

# PATH=VALUE or GROUP=CHOICE, as hydra has them; a URI may have `=` in what follows its `?`.
OVERRIDE = re.compile(r"[+~]*\w[\w./@-]*=")


class MeanRate(ProgressColumn):
    """Bytes a second since the start: of files that end together a recent rate would say nothing."""

    def render(self, task: Task) -> Text:
        """The rate in words."""
        return Text(f"{size(task.completed / task.elapsed)}/s" if task.elapsed else "")


def size(count: float) -> str:
    """A number of bytes in words."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def row_counts(manifest: Manifest) -> str:
    """The rows of all splits in words."""
    return ", ".join(f"{manifest.splits[name].rows} {name}" for name in SPLITS if name in manifest.splits)


def stored_bytes(manifest: Manifest) -> int:
    """The bytes of all shards."""
    return sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)


def byte_progress(console: Console) -> Progress:
    """A bar that counts bytes, with their rate."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        MeanRate(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def take_uri(arguments: Namespace) -> str:
    """The one word of a command line that is no override, which may stand anywhere among them.

    Args:
        arguments: as parsed by `cli.Parser`; its overrides lose that word.

    Raises:
        InputError: there is none, or there are several.
    """
    words = [word for word in arguments.overrides if not OVERRIDE.match(word)]
    if len(words) != 1:
        rule = "one dataset is required: a path, file://, s3:// or gs://"
        raise InputError("URI", words, rule, "give one; write ./NAME for a path with '=' in its name")
    arguments.overrides = [word for word in arguments.overrides if word not in words]
    return str(words[0])


def task_of(dataset: Dataset, config: Config, overrides: Sequence[str]) -> tuple[seam.Task | None, str]:
    """The task that a dataset is of, shown the dataset, or why there is none.

    A task that is asked for on the command line must fit; the default one is taken where its name is the
    generator's and it accepts the dataset.

    Args:
        dataset: the dataset.
        config: names the task.
        overrides: what was asked for on the command line.

    Raises:
        InputError: the task that was asked for does not fit.
    """
    name, generator = config.task["name"], dataset.manifest.generator.name
    if any(text.startswith(("task=", "task.")) for text in overrides):
        return build_task(config, dataset), ""
    if name != generator:
        return None, f"the task is {name!r} and the dataset of {generator!r}; task=NAME chooses another task"
    try:
        return build_task(config, dataset), ""
    except InputError as error:
        return None, f"the task {name!r} as it is configured refuses the dataset ({error})"
