"""How many trials a cluster carries at once when all its nodes are there, and on what: its file says."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ristune.errors import InputError

# What Ray takes for `max_workers` where the file says nothing.
RAYS_MAX_WORKERS = 2


@dataclass(frozen=True)
class Kind:
    """One kind of nodes.

    Attributes:
        name: its node type.
        cpus: cores that Ray may use on one; None if the file does not say.
        gpus: likewise.
        most: how many there may be.
        head: whether it is the head, which is there always and counts for no worker.
    """

    name: str
    cpus: float | None
    gpus: float | None
    most: int
    head: bool = False


def kinds(content: Mapping[str, Any]) -> list[Kind]:
    """The kinds of nodes of a cluster file.

    Args:
        content: of the file, which Ray's schema accepts.
    """
    if "available_node_types" not in content:
        return _on_premises(content)
    limit = max_workers(content)
    head = content["head_node_type"]
    found = []
    for name, kind in content["available_node_types"].items():
        resources = kind.get("resources") or {}
        cpus = resources.get("CPU")
        # What is named is all there is: a type with cores and without GPUs has none.
        gpus = resources.get("GPU", 0 if resources else None)
        if name == head:
            found.append(Kind(name, cpus, gpus, 1, head=True))
        if name != head or kind.get("max_workers"):
            found.append(Kind(name, cpus, gpus, min(kind.get("max_workers", limit), limit)))
    return found


def max_workers(content: Mapping[str, Any]) -> int:
    """Workers there may be at once, of whatever kind."""
    hosts = content["provider"].get("worker_ips")
    if hosts is not None:
        return min(int(content.get("max_workers", len(hosts))), len(hosts))
    return int(content.get("max_workers", RAYS_MAX_WORKERS))


def device(found: Iterable[Kind]) -> str:
    """What trials train on: `cuda` if any worker has a GPU, else `cpu`.

    Raises:
        InputError: if the file does not say what workers have.
    """
    workers = [kind for kind in found if not kind.head]
    if any(kind.gpus for kind in workers):
        return "cuda"
    for kind in workers:
        if kind.gpus is None:
            raise InputError(
                "training.device",
                "auto",
                f"the cluster file does not say whether a node of the type {kind.name!r} has a GPU",
                "set training.device=cuda or training.device=cpu",
            )
    return "cpu"


def concurrency(
    content: Mapping[str, Any], on: str, cpus_per_trial: int, gpu_per_trial: float, trials: int
) -> int:
    """How many trials run at once when every worker is there that may be.

    Kinds that stand in for each other, as spot nodes and their fallback on demand, are no sum: workers are
    counted up to the cluster's own maximum, those that carry the most first.

    Args:
        content: of the file, which Ray's schema accepts.
        on: `cuda` or `cpu`.
        cpus_per_trial: cores a trial; 0 is one.
        gpu_per_trial: share of a GPU a trial.
        trials: in total; there are never more at once.

    Raises:
        InputError: if no node can carry a trial, or the file does not say what nodes have.
    """
    found = kinds(content)
    slots = {kind: _slots(kind, on, max(1, cpus_per_trial), gpu_per_trial) for kind in found}
    total = sum(slots[kind] for kind in found if kind.head)
    left = max_workers(content)
    for kind in sorted((k for k in found if not k.head), key=lambda k: slots[k], reverse=True):
        nodes = min(kind.most, left)
        total += nodes * slots[kind]
        left -= nodes
    if total == 0:
        need = f"{gpu_per_trial:g} GPU and " if on == "cuda" else ""
        raise InputError(
            "--cluster",
            ", ".join(kind.name for kind in found),
            f"no node of the cluster file carries a trial, which needs {need}{max(1, cpus_per_trial)} cores",
            "lower sweep.cpus_per_trial, correct training.device, or raise max_workers",
        )
    return min(total, trials)


def _slots(kind: Kind, on: str, cpus_per_trial: int, gpu_per_trial: float) -> int:
    """Trials that one node carries; a trial never spreads over two GPUs."""
    known = kind.gpus if on == "cuda" else kind.cpus
    if known is None and kind.head:
        # That it carries some as well is welcome, and not relied on.
        return 0
    if known is None:
        raise InputError(
            "sweep.concurrency",
            0,
            f"the cluster file does not say what a node of the type {kind.name!r} has",
            "set sweep.concurrency to the trials that the cluster can carry at once",
        )
    by_cores = math.inf if kind.cpus is None else kind.cpus // cpus_per_trial
    by_gpus = int(kind.gpus or 0) * math.floor(1 / gpu_per_trial) if on == "cuda" else math.inf
    return int(min(by_cores, by_gpus))


def _on_premises(content: Mapping[str, Any]) -> list[Kind]:
    """Hosts of one's own have what `ray start` finds there, unless its options say."""
    head = content.get("head_start_ray_commands", ())
    worker = content.get("worker_start_ray_commands", ())
    return [
        Kind("head", _option(head, "num-cpus"), _option(head, "num-gpus"), 1, head=True),
        Kind("worker", _option(worker, "num-cpus"), _option(worker, "num-gpus"), max_workers(content)),
    ]


def _option(commands: Sequence[str], name: str) -> float | None:
    found = re.findall(rf"--{name}[= ]\s*([0-9.]+)", " ".join(commands))
    return float(found[-1]) if found else None
