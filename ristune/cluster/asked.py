"""What a sweep asks of a cluster, and what this machine ships to it: what a cluster file is held against."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ristune.cluster.cluster_file import ClusterFile

# What the project is known by.
PROJECT = "ristune"
CONSTRAINTS = "constraints.txt"
# Ray's own place of the token, below a home.
TOKEN = ".ray/auth_token"


@dataclass(frozen=True)
class Shipped:
    """What of this machine goes to the nodes.

    Attributes:
        project: the path of ristune's folder on the nodes; None if it is not shipped.
        pins: versions by package of its constraints.txt.
        ignored: patterns of the files that `rsync_filter` names.
        missing: mounts whose local path does not exist, by their path on the nodes.
        token: whether there is a token on this machine yet.
    """

    project: str | None
    pins: Mapping[str, str]
    ignored: tuple[str, ...]
    missing: Mapping[str, str]
    token: bool


@dataclass(frozen=True)
class Asked:
    """What a sweep asks for, and what it runs with here.

    Attributes:
        output: where it writes; None if nobody has said.
        data_uri: where its dataset is; None if nobody has said.
        concurrency: trials at once; 0 if nobody has said.
        on_gpu: whether trials train on GPUs; None if that is left to the machine.
        cpus: cores a trial.
        gpu: share of a GPU a trial.
        dataset_bytes: decoded; None if it is not known.
        dataset_note: which dataset that is, or why its size is not known.
        cached: whether nodes keep the dataset.
        cache_disk_gb: the most that a node keeps on its disk.
        ray: version of Ray here.
        python: minor version of Python here, such as 3.11.
        shipped: what goes to the nodes.
    """

    output: str | None
    data_uri: str | None
    concurrency: int
    on_gpu: bool | None
    cpus: int
    gpu: float
    dataset_bytes: int | None
    dataset_note: str
    cached: bool
    cache_disk_gb: float
    ray: str
    python: str
    shipped: Shipped


def shipped(cluster: ClusterFile, root: Path) -> Shipped:
    """Look at what a cluster file ships, on this machine.

    Args:
        cluster: the file.
        root: the folder that local paths are relative to: where `ray up` is run.
    """
    here = {far: root / Path(near).expanduser() for far, near in cluster.file_mounts.items()}
    project = next((far for far, near in here.items() if _is_project(near)), None)
    missing = {
        far: cluster.file_mounts[far]
        for far, near in here.items()
        # The token is made by a command of its own.
        if not near.exists() and not is_token(far)
    }
    pins, ignored = {}, []
    if project is not None:
        pins = _pins(here[project] / CONSTRAINTS)
        for name in cluster.document.get("rsync_filter") or ():
            ignored += _lines(here[project] / str(name))
    token = any(near.exists() for far, near in here.items() if is_token(far))
    return Shipped(project, pins, tuple(ignored), missing, token)


def is_token(path: str) -> bool:
    """Whether a path on a node is where Ray looks for its token."""
    return path.rstrip("/").endswith(f"/{TOKEN}")


def _is_project(folder: Path) -> bool:
    about = folder / "pyproject.toml"
    if not about.is_file():
        return False
    found = tomllib.loads(about.read_text()).get("project", {})
    return isinstance(found, dict) and found.get("name") == PROJECT


def _pins(path: Path) -> dict[str, str]:
    pairs = (line.partition("==") for line in _lines(path))
    return {name.strip().lower(): version.strip() for name, found, version in pairs if found}


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines()) if path.is_file() else ()
    return [line for line in lines if line and not line.startswith("#")]
