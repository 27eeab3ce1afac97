"""What travels to a cluster with a sweep, in one archive: code, configuration, what the command names."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ray._private.runtime_env.packaging import create_package

import ristune
from ristune.config import config_dir
from ristune.errors import InputError, some

# What the head's server takes in one request.
MOST_BYTES = 100 * 2**20
# Of the current folder: results, datasets and what tools make; at any depth: what Python and git make.
LEFT_BEHIND = frozenset({"data", "runs", "outputs", "wandb", "node_modules", "venv", "env", "build", "dist"})
EXCLUDES = ("__pycache__", ".git", "*.pyc", "*.egg-info")
# Where things that the command line names lie in the archive.
GIVEN = "given"


class Luggage:
    """A folder of links to all that travels.

    Args:
        folder: an empty one for the links.
        here: whose code and files travel, but those that its `.gitignore` and `.rayignore` name.
    """

    def __init__(self, folder: Path, here: Path) -> None:
        self._folder = folder
        self._count = 0
        for entry in sorted(here.iterdir()):
            hidden = entry.name.startswith(".") and entry.name not in (".gitignore", ".rayignore")
            if entry.name not in LEFT_BEHIND and not hidden and entry.name != "ristune":
                (folder / entry.name).symlink_to(entry.absolute())
        self._add_package()

    def add(self, path: Path, parts: Sequence[str] = ()) -> str:
        """Take a file or a folder along.

        Args:
            path: of it here.
            parts: of the folder, relative to it, if not all of it.

        Returns:
            Its path there, relative to the folder that a command runs in.
        """
        target = Path(GIVEN) / str(self._count) / path.resolve().name
        self._count += 1
        for source, link in [(path / part, target / part) for part in parts] or [(path, target)]:
            (self._folder / link).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / link).symlink_to(source.resolve())
        return str(target)

    def pack(self, archive: Path) -> Path:
        """Make one archive of it.

        Args:
            archive: its name, which ends with `.zip`.

        Raises:
            InputError: if it is larger than the head would take.
        """
        create_package(str(self._folder), archive, include_gitignore=True, excludes=list(EXCLUDES))
        size = archive.stat().st_size
        if size > MOST_BYTES:
            largest = sorted(self._folder.iterdir(), key=_size, reverse=True)
            rule = (
                f"code and configuration that travel are at most {MOST_BYTES >> 20} MiB, and are {size >> 20}"
            )
            remedy = f"name what is not needed in .rayignore; look at {some([p.name for p in largest], 3)}"
            raise InputError("current folder", os.getcwd(), rule, remedy)
        return archive

    def _add_package(self) -> None:
        """The package that runs here, with its configuration inside, as in a wheel."""
        package = Path(ristune.__file__).resolve().parent
        (self._folder / "ristune").mkdir()
        for entry in package.iterdir():
            if entry.name not in ("configs", "__pycache__"):
                (self._folder / "ristune" / entry.name).symlink_to(entry)
        (self._folder / "ristune" / "configs").symlink_to(config_dir())


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        yield path
    for folder, _, names in os.walk(path, followlinks=True):
        yield from (Path(folder) / name for name in names if (Path(folder) / name).is_file())
