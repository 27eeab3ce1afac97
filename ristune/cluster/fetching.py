"""A sweep's results, from where the cluster wrote them into a folder of this machine."""

import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from ristune.cluster.launcher import ClusterFailure, Head
from ristune.cluster.tunnel import inside, ssh
from ristune.storage.access import open_storage

# Of a sweep in a store: folders of trials, and what is the driver's; the journal lies there in pieces.
LEFT_THERE = ("trials", "journal", "lease")


def from_store(uri: str, local: Path) -> None:
    """Fetch results from an object store, with this machine's credentials.

    Args:
        uri: of the sweep's folder.
        local: folder to put them into; what has the same name there is replaced.

    Raises:
        InputError: if the store, or the sweep in it, cannot be read.
    """
    storage = open_storage(uri, "output")
    with _arriving(local) as folder:

        def copy(path: str) -> None:
            files = storage.modified(path)
            for name in storage.list(path):
                below = f"{path}/{name}".lstrip("/")
                if name in LEFT_THERE:
                    continue
                if name not in files:
                    copy(below)
                    continue
                (folder / below).parent.mkdir(parents=True, exist_ok=True)
                (folder / below).write_bytes(storage.read(below))

        copy("")


def from_head(head: Head, container: str | None, directory: str, local: Path) -> None:
    """Fetch results from a folder that the head sees.

    Args:
        head: how to log in.
        container: in which Ray runs; None if it is the host itself.
        directory: of the sweep, there.
        local: folder to put them into; what has the same name there is replaced.

    Raises:
        ClusterFailure: if the head cannot be reached, or has no such folder.
    """
    left = " ".join(f"--exclude={name}" for name in ("./trials", "./journal/lock", "./journal/lease"))
    command = inside(f"tar -C {shlex.quote(directory)} {left} -cf - .", container)
    with _arriving(local) as folder, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ssh(head, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                archive.extractall(folder, filter="data")
        except tarfile.TarError as error:
            reason = str(error)
        else:
            reason = ""
        process.stdout.close()
        if process.wait() or reason:
            said.seek(0)
            words = " ".join(said.read().decode(errors="replace").split()) or reason
            raise ClusterFailure(f"cannot fetch {directory} from {head.address}: {words}")


def relocate(local: Path, there: str, config_dirs: Sequence[str]) -> None:
    """Let the fetched `best.yaml` name the folders of this machine.

    Args:
        local: folder of the results.
        there: the folder that they were fetched from.
        config_dirs: the user's configuration folders here; empty if they are not known.
    """
    path = local / "best.yaml"
    if not path.is_file():
        return
    text = path.read_text()
    theirs = yaml.safe_load(text)["config_dirs"]
    for old, new in zip([there, *theirs], [str(local), *config_dirs], strict=False):
        text = text.replace(old, new)
    path.write_text(text)


@contextmanager
def _arriving(local: Path) -> Iterator[Path]:
    """A folder beside another, whose content takes its place there once it is whole."""
    local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{local.name}.", dir=local.parent) as name:
        yield Path(name)
        for entry in sorted(Path(name).iterdir()):
            target = local / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            entry.rename(target)
