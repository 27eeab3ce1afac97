"""What a sweep asks of a cluster, and what this machine ships to it: what a cluster file is held against."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ristune.cluster.cluster_file import ClusterFile

# What the project is known by.
PROJECT, ABOUT = "ristune", "pyproject.toml"
# What an installation of it needs, beside its description.
PARTS = (PROJECT, "configs", "README.md", "LICENSE")
CONSTRAINTS = "constraints.txt"
# Ray's own place of the token, below a home.
TOKEN = ".ray/auth_token"


@dataclass(frozen=True)
class Shipped:
    """What of this machine goes to the nodes.

    Attributes:
        project: the path of ristune's folder on the nodes; None if it is not shipped.
        whole: whether all of that folder is, and not parts of it by name.
        lacking: of the parts that an installation needs, those that are not shipped.
        pins: Ray's version by the path, on the nodes, of a file of constraints.
        ignored: patterns of the files that `rsync_filter` names.
        missing: local paths that do not exist, by their path on the nodes.
        later: those below the user's home, such as the token: made by whoever brings the cluster up.
    """

    project: str | None
    whole: bool
    lacking: tuple[str, ...]
    pins: Mapping[str, str]
    ignored: tuple[str, ...]
    missing: Mapping[str, str]
    later: tuple[str, ...]


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
    mounts = {far.rstrip("/"): near for far, near in cluster.file_mounts.items()}
    here = {far: root / Path(near).expanduser() for far, near in mounts.items()}
    absent = {far: mounts[far] for far, near in here.items() if not near.exists()}
    later = tuple(near for near in absent.values() if near.startswith("~"))
    # By its description: the folder that holds it, or the description itself beside the other parts.
    whole = next((far for far, near in here.items() if _is_project(near / ABOUT)), None)
    parts = next((str(PurePosixPath(far).parent) for far, near in here.items() if _is_project(near)), None)
    ignored = []
    if whole is not None:
        for name in cluster.document.get("rsync_filter") or ():
            ignored += _lines(here[whole] / str(name))
    return Shipped(
        project=whole or parts,
        whole=whole is not None,
        lacking=() if whole else tuple(part for part in PARTS if f"{parts}/{part}" not in mounts),
        pins=dict(_pins(here)),
        ignored=tuple(ignored),
        missing={far: near for far, near in absent.items() if near not in later},
        later=later,
    )


def is_token(path: str) -> bool:
    """Whether a path on a node is where Ray looks for its token."""
    return path.rstrip("/").endswith(f"/{TOKEN}")


def _is_project(about: Path) -> bool:
    if about.name != ABOUT or not about.is_file():
        return False
    found = tomllib.loads(about.read_text()).get("project", {})
    return isinstance(found, dict) and found.get("name") == PROJECT


def _pins(here: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Ray's version in each file of constraints that is shipped, by its path on the nodes."""
    for far, near in here.items():
        files = {far: near} if near.is_file() else {f"{far}/{CONSTRAINTS}": near / CONSTRAINTS}
        for path, file in files.items():
            if path.endswith(CONSTRAINTS):
                lines = [line.partition("==") for line in _lines(file)]
                yield from ((path, version.strip()) for name, _, version in lines if name.strip() == "ray")


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines()) if path.is_file() else ()
    return [line for line in lines if line and not line.startswith("#")]
