"""Command: make a dataset of a user's own shards by numpy.savez."""

import shlex
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ristune import cli
from ristune.config import Config, build
from ristune.data.manifest import MANIFEST, SPLITS
from ristune.data.writing.source import parts
from ristune.data.writing.writer import write_dataset
from ristune.dataset.console import row_counts, size, stored_bytes
from ristune.errors import InputError
from ristune.meter import Meter
from ristune.overrides import typed
from ristune.storage.access import open_storage

EXAMPLES = """\
  python -m ristune.dataset import-npz old_shards --out data/old
  python -m ristune.dataset import-npz --train a.npz b.npz --val c.npz --test d.npz --out data/old
  python -m ristune.dataset import-npz all.npz --shares 0.8,0.1,0.1 --out data/old importer.seed=3"""
PURPOSE = """\
Make a dataset of shards that numpy.savez wrote, by the task's importer. SRC are files, or folders with
train*.npz, val*.npz and test*.npz or folders of these names; SRC with other names are cut at random by
--shares. Files may be larger than memory; what savez_compressed wrote is refused with a remedy.

Every row is looked at first: how labels are meant is told from the data or refused with the residuals of
all candidates, and scenes that are in two splits are refused. Then rows are written in random order."""

# Files whose names say no split.
ALL = "all"
SUFFIX = ".npz"
# What an importer of a user's own must have.
IMPORTER = ("rows", "survey")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.dataset import-npz`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("dataset import-npz", PURPOSE, EXAMPLES)
    for split in SPLITS:
        parser.add_argument(f"--{split}", nargs="+", default=[], metavar="SRC", help=f"files of {split}")
    parser.add_argument("--shares", type=_shares, metavar="A,B,C", help="shares of train, val and test")
    parser.add_argument("--out", metavar="DIR", help="where to write it (default: data.uri)")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--drop-duplicates",
        action="store_const",
        dest="duplicates",
        const="drop",
        help="keep the first of equal scenes, in the order train, val, test",
    )
    group.add_argument(
        "--allow-duplicates",
        action="store_const",
        dest="duplicates",
        const="allow",
        help="keep scenes that are in two splits",
    )
    arguments = parser.parse_intermixed_args(argv)
    # Overrides and SRC may stand anywhere, so that only their form tells them apart.
    sources = [text for text in arguments.overrides if "=" not in text or Path(text).exists()]
    arguments.overrides = [text for text in arguments.overrides if text not in sources]
    config = cli.configure(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    given = {split: getattr(arguments, split) for split in SPLITS if getattr(arguments, split)}
    files = find_files(sources, given, arguments.shares is not None)
    uri = arguments.out or config.data.uri
    _check_free(uri)
    console = cli.console()
    importer = _importer(config, files, arguments.shares or [], arguments.duplicates or "refuse")
    with Meter(console, "looking at every row", importer.rows) as meter:
        source = importer.survey(parts, meter.advance)
    for line in source.lines:
        console.print(line)
    with Meter(console, f"writing {uri}", sum(part.rows for part in source.parts())) as meter:
        manifest = write_dataset(uri, source, progress=meter.advance)
    console.print(
        f"{uri}: {row_counts(manifest)}, {size(stored_bytes(manifest))}, id {manifest.dataset_id[:12]}"
    )
    again = [text for text in arguments.overrides if not text.startswith(("data.uri=", "importer"))]
    folders = [part for folder in arguments.config_dir for part in ("--config-dir", folder)]
    command = ["python", "-m", "ristune.train", *again, *source.hints, *folders, typed("data.uri", uri)]
    console.print(f"train on it: {shlex.join(command)}")
    return cli.DONE


def find_files(
    sources: Sequence[str], given: Mapping[str, Sequence[str]], shares: bool
) -> dict[str, list[str]]:
    """The files by split, or all of them under `all` where they are to be cut by shares.

    Args:
        sources: files and folders whose names say the split.
        given: files and folders by split.
        shares: whether files are to be cut, whatever their names say.

    Raises:
        InputError: if there are none, one is missing, or the split of one is not told.
    """
    found = {split: [file for path in paths for file in _expand(path)] for split, paths in given.items()}
    named = [(_split_of(file, path), file) for path in sources for file in _expand(path)]
    if shares and given:
        raise InputError(
            "--shares", "given", "files are cut by shares or by --train, --val, --test", "drop one"
        )
    if shares:
        return {ALL: _present(file for _, file in named)}
    for split, file in named:
        if not split:
            raise InputError(
                "SRC",
                file,
                "its name, or its folder's, must start with train, val or test",
                "say which with --train, --val, --test, or cut at random with --shares 0.8,0.1,0.1",
            )
        found.setdefault(split, []).append(file)
    _present(file for files in found.values() for file in files)
    return {split: found[split] for split in SPLITS if split in found}


def _expand(path: str) -> list[str]:
    place = Path(path)
    if place.is_dir():
        return [str(file) for file in sorted(place.rglob(f"*{SUFFIX}"))]
    if not place.is_file():
        raise InputError("SRC", path, f"it must be a {SUFFIX} file or a folder", "check the path")
    return [path]


def _present(files: Iterable[str]) -> list[str]:
    listed = list(files)
    if not listed:
        raise InputError("SRC", listed, f"at least one {SUFFIX} file is required", "name files or a folder")
    repeated = sorted({file for file in listed if listed.count(file) > 1})
    if repeated:
        raise InputError("SRC", repeated[0], "a file is named once", "name it once")
    return listed


def _split_of(file: str, source: str) -> str:
    """The split that a file's name says, or that of a folder on the way from the source to it."""
    inside = Path(file).relative_to(source).parts if Path(source).is_dir() else ()
    for name in (Path(file).name, *reversed(inside[:-1])):
        for split in SPLITS:
            if name.lower().startswith(split):
                return split
    return ""


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        rule = "it must be three numbers, for train, val and test, as in 0.8,0.1,0.1"
        raise ArgumentTypeError(f"got {text!r}; {rule}") from error


def _check_free(uri: str) -> None:
    """Refuse a place that holds a dataset before hours of reading, not after them."""
    if open_storage(uri).exists(MANIFEST):
        raise InputError(
            "--out", uri, "there is a dataset already, and datasets never change", "choose another"
        )


def _importer(
    config: Config, files: Mapping[str, Sequence[str]], shares: Sequence[float], duplicates: str
) -> Any:
    if config.importer is None:
        raise InputError(
            "importer",
            None,
            f"the task {config.task['name']!r} has none",
            "add importer/NAME.yaml beside the task's YAML",
        )
    spec = {**config.importer, "files": dict(files), "shares": list(shares), "duplicates": duplicates}
    importer = build(spec)
    missing = [name for name in IMPORTER if not hasattr(importer, name)]
    if missing:
        rule = f"it must have {', '.join(IMPORTER)}; missing: {', '.join(missing)}"
        raise InputError("importer", type(importer).__name__, rule, "add them to the class")
    return importer


if __name__ == "__main__":
    sys.exit(main())
