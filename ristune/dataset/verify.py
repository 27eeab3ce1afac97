"""Command: find every fault of a dataset."""

import sys
from argparse import BooleanOptionalAction
from collections.abc import Sequence

from rich.console import Console

from ristune import cli
from ristune.config import Config
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.manifest import MANIFEST, PIN, SPLITS
from ristune.data.verify import THREADS, verify
from ristune.dataset.console import byte_progress, take_uri, task_of
from ristune.errors import InputError
from ristune.storage.access import Storage, open_storage
from ristune.training.task import ChecksSamples

EXAMPLES = """\
  python -m ristune.dataset verify data/nearfield
  python -m ristune.dataset verify s3://bucket/nearfield --threads 8
  python -m ristune.dataset verify data/mine task=mine --config-dir my_configs"""
PURPOSE = """\
Check a dataset whole: pin and manifest, every file's length and hashes, its footer and pages, every value,
ids within and across splits, files that do not belong, statistics, and what the task finds on a sample of
each split. All faults are listed, one a line: the place (shard, row group and column where they are
known), what is wrong, what to do. Ends with status 0 if there is none, 1 if there are some."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.dataset verify`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("dataset verify", PURPOSE, EXAMPLES)
    parser.usage = f"{parser.prog} [OPTION ...] URI [PATH=VALUE ...]"
    parser.add_argument(
        "--task-check",
        action=BooleanOptionalAction,
        default=True,
        help="let the task look at a sample of each split (default: yes)",
    )
    parser.add_argument(
        "--samples", type=cli.at_least_one, default=256, metavar="N", help="rows a split for the task (256)"
    )
    parser.add_argument(
        "--threads", type=cli.at_least_one, default=THREADS, metavar="N", help=f"files at once ({THREADS})"
    )
    parser.add_argument(
        "--fast", action="store_true", help="only pin, manifest, sizes and strays; no file is read"
    )
    arguments = parser.parse_intermixed_args(argv)
    uri = take_uri(arguments)
    config = cli.configure(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    console = cli.console()
    storage = open_storage(uri)
    if not (storage.exists(MANIFEST) or storage.exists(PIN)):
        dataset = open_dataset(uri)
        rule = "files of other tools come without hashes, so there is nothing to hold them against"
        remedy = f"python -m ristune.dataset convert {dataset.uri} OUT, and verify that"
        raise InputError("URI", dataset.uri, rule, remedy)
    faults = _generic_faults(storage, arguments.threads, arguments.fast, console)
    if not faults and arguments.task_check and not arguments.fast:
        dataset = open_dataset(uri)
        faults = _task_faults(dataset, config, arguments.overrides, arguments.samples, console)
    sound = "nothing wrong with names and sizes" if arguments.fast else "sound"
    found = "1 fault" if faults == 1 else f"{faults} faults"
    console.print(f"{storage.uri}: {found if faults else sound}")
    return cli.FAILED if faults else cli.DONE


def _generic_faults(storage: Storage, threads: int, fast: bool, console: Console) -> int:
    """Print what needs no task to be found, and count it."""
    count = 0
    with byte_progress(console) as progress:
        bar = progress.add_task(f"verifying {storage.uri}", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(bar, advance=done, total=total)

        for finding in verify(storage, advance, threads, fast):
            console.print(str(finding))
            count += 1
    return count


def _task_faults(
    dataset: Dataset, config: Config, overrides: Sequence[str], samples: int, console: Console
) -> int:
    """Print what the task finds on the first rows of each split, and count it."""
    task, reason = task_of(dataset, config, overrides)
    if task is None:
        console.print(f"not checked by a task: {reason}")
        return 0
    if not isinstance(task, ChecksSamples):
        console.print(f"not checked by a task: {type(task).__name__} has no check_sample")
        return 0
    count = 0
    for split in (name for name in SPLITS if name in dataset.manifest.splits):
        rows = min(samples, dataset.rows(split))
        found = task.check_sample(dict(dataset.split(split, limit=rows)))
        for text in found:
            console.print(f"{split}: {text}")
        if not found:
            console.print(f"{type(task).__name__} finds nothing wrong in {rows} rows of {split}")
        count += len(found)
    return count


if __name__ == "__main__":
    sys.exit(main())
