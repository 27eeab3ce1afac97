"""A Ray cluster file in typed form: what the checks ask of it; knows neither Ray nor torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ristune.cluster.machines import disk_gb, is_spot, machine_type, security_groups
from ristune.errors import InputError

# The provider of hosts that are there already; its file names no node types.
LOCAL = "local"
NODE_TYPES = "available_node_types"


@dataclass(frozen=True)
class Command:
    """A shell command and its place in the file."""

    place: str
    text: str


@dataclass(frozen=True)
class NodeType:
    """A kind of node.

    Attributes:
        name: as the file names it.
        place: of the type in the file.
        cpus: cores that trials may use; None where the file does not say.
        gpus: likewise.
        min_workers: nodes that are always there.
        max_workers: the most of this type.
        spot: whether the provider may take it back.
        machine: the provider's name of the machine; None where the file does not say.
        disk: its size in GB of 10^9 bytes, and its place in the file; None where the file does not say.
        security_groups: those that the file gives to it itself.
    """

    name: str
    place: str
    cpus: float | None = None
    gpus: float | None = None
    min_workers: int = 0
    max_workers: int = 0
    spot: bool = False
    machine: str | None = None
    disk: tuple[float, str] | None = None
    security_groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterFile:
    """A cluster file.

    Attributes:
        path: where it was read.
        document: all of it, as YAML gives it.
        provider: its type, such as aws.
        head: the type of the head.
        workers: the other types.
        max_workers: the most nodes beside the head.
        idle_timeout: minutes until an idle node goes; None where the file does not say.
        images: of containers that all runs in, with their places.
        file_mounts: local path by the path on the nodes.
        synced: paths that go from the head to the workers.
        excluded: patterns of what is not shipped.
        initialization: commands before the setup, outside any container.
        head_setup: all setup commands of the head, in order.
        worker_setup: likewise of each type of worker, by its name.
        head_start: what starts Ray on the head.
        worker_start: what starts it on workers.
    """

    path: Path
    document: Mapping[str, Any]
    provider: str
    head: NodeType
    workers: tuple[NodeType, ...]
    max_workers: int
    idle_timeout: float | None
    images: tuple[Command, ...]
    file_mounts: Mapping[str, str]
    synced: tuple[str, ...]
    excluded: tuple[str, ...]
    initialization: tuple[Command, ...]
    head_setup: tuple[Command, ...]
    worker_setup: Mapping[str, tuple[Command, ...]]
    head_start: tuple[Command, ...]
    worker_start: tuple[Command, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Addresses of hosts that are there already: the head's, then the workers'."""
        head, workers = at(self.document, "provider", "head_ip"), at(self.document, "provider", "worker_ips")
        return tuple(map(str, [head, *(workers or [])])) if head else ()

    @property
    def setup(self) -> tuple[Command, ...]:
        """Every setup command of every node, once."""
        workers = (command for commands in self.worker_setup.values() for command in commands)
        return tuple(dict.fromkeys([*self.initialization, *self.head_setup, *workers]))


def read_document(path: Path) -> dict[str, Any]:
    """A cluster file as YAML gives it.

    Raises:
        InputError: if it cannot be read, or is no Ray cluster file.
    """
    remedy = "give a file as `ray up` takes it, such as ray_cluster.yaml"
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError("--cluster", str(path), f"it cannot be read ({error.strerror})", remedy) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        rule = f"it must be YAML ({' '.join(str(error).split())})"
        raise InputError("--cluster", str(path), rule, "correct that line") from error
    if not isinstance(document, dict) or not {"cluster_name", "provider"} <= document.keys():
        rule = "it must be a Ray cluster file: a mapping with cluster_name and provider"
        raise InputError("--cluster", str(path), rule, remedy)
    return document


def view(path: Path, document: Mapping[str, Any]) -> ClusterFile:
    """What the checks ask of a file that Ray's schema accepts.

    Args:
        path: where it was read.
        document: as `read_document` gives it.
    """
    provider = str(at(document, "provider", "type"))
    head, workers = _hosts(document) if provider == LOCAL else _types(document)
    shared = commands(document, "setup_commands")
    of_workers = (*shared, *commands(document, "worker_setup_commands"))
    types = document.get(NODE_TYPES) or {}
    return ClusterFile(
        path=path,
        document=document,
        provider=provider,
        head=head,
        workers=workers,
        max_workers=_max_workers(document, workers),
        idle_timeout=document.get("idle_timeout_minutes"),
        images=_images(document),
        file_mounts={str(far): str(here) for far, here in (document.get("file_mounts") or {}).items()},
        synced=tuple(map(str, document.get("cluster_synced_files") or ())),
        excluded=tuple(map(str, document.get("rsync_exclude") or ())),
        initialization=commands(document, "initialization_commands"),
        head_setup=(*shared, *commands(document, "head_setup_commands")),
        # A type's own commands take the place of all the others.
        worker_setup={
            worker.name: commands(types[worker.name], "worker_setup_commands", f"{worker.place}.")
            if "worker_setup_commands" in (types.get(worker.name) or {})
            else of_workers
            for worker in workers
        },
        head_start=commands(document, "head_start_ray_commands"),
        worker_start=commands(document, "worker_start_ray_commands"),
    )


def at(node: object, *keys: str | int) -> Any:
    """What is in nested mappings and lists; None where a part of the way is missing."""
    for key in keys:
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            return None
    return node


def commands(document: Mapping[str, Any], name: str, prefix: str = "") -> tuple[Command, ...]:
    """The commands of a list, with their places.

    Args:
        document: holds the list.
        name: of the list.
        prefix: the place of the document itself, with a dot.
    """
    texts = document.get(name) or ()
    return tuple(Command(f"{prefix}{name}[{index}]", str(text)) for index, text in enumerate(texts))


def _types(document: Mapping[str, Any]) -> tuple[NodeType, tuple[NodeType, ...]]:
    found = {name: _type(document, str(name), body) for name, body in document.get(NODE_TYPES, {}).items()}
    head = found.pop(document.get("head_node_type"), NodeType("head", NODE_TYPES))
    return head, tuple(found.values())


def _type(document: Mapping[str, Any], name: str, body: Mapping[str, Any]) -> NodeType:
    place, resources = f"{NODE_TYPES}.{name}", body.get("resources") or {}
    config = body.get("node_config") or {}
    # Ray starts no more of the head's type unless it is told to.
    most = 0 if name == document.get("head_node_type") else document.get("max_workers", 0)
    # Where cores are given and GPUs are not, there are none; where nothing is, Ray asks the provider.
    return NodeType(
        name=name,
        place=place,
        cpus=resources.get("CPU"),
        gpus=resources.get("GPU", 0 if "CPU" in resources else None),
        min_workers=body.get("min_workers", 0),
        max_workers=body.get("max_workers", most),
        spot=is_spot(config),
        machine=machine_type(config),
        disk=disk_gb(config, f"{place}.node_config"),
        security_groups=security_groups(config),
    )


def _hosts(document: Mapping[str, Any]) -> tuple[NodeType, tuple[NodeType, ...]]:
    """Hosts that are there already, as the two types that they are used as."""
    given = at(document, "provider", "worker_ips")
    count = len(given) if isinstance(given, list) else document.get("max_workers", 0)
    most = min(count, document.get("max_workers", count))
    least = min(count, document.get("min_workers", count))
    cpus, gpus = (_option(document, "worker_start_ray_commands", each) for each in ("cpus", "gpus"))
    workers = NodeType("workers", "provider.worker_ips", cpus, gpus, min_workers=least, max_workers=most)
    cpus, gpus = (_option(document, "head_start_ray_commands", each) for each in ("cpus", "gpus"))
    return NodeType("head", "provider.head_ip", cpus, gpus), (workers,)


def _option(document: Mapping[str, Any], name: str, what: str) -> float | None:
    """What `ray start` is told that a host has; None where it finds out itself."""
    text = " ".join(command.text for command in commands(document, name))
    found = re.findall(rf"--num-{what}[= ]\s*([0-9.]+)", text)
    return float(found[-1]) if found else None


def _max_workers(document: Mapping[str, Any], workers: tuple[NodeType, ...]) -> int:
    # Ray's own default for providers of clouds is 2; it is in their defaults, which the schema check reads.
    default = workers[0].max_workers if document["provider"].get("type") == LOCAL and workers else 2
    return int(document.get("max_workers", default))


def _images(document: Mapping[str, Any]) -> tuple[Command, ...]:
    docker = document.get("docker") or {}
    places = {f"docker.{key}": docker.get(key) for key in ("image", "head_image", "worker_image")}
    for name, body in (document.get(NODE_TYPES) or {}).items():
        places[f"{NODE_TYPES}.{name}.docker.worker_image"] = at(body, "docker", "worker_image")
    return tuple(Command(place, str(image)) for place, image in places.items() if image)
