"""The nodes of a running cluster, asked by a process on each of them."""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ristune.cluster.facts import Clock, Node
from ristune.cluster.probe import Probe
from ristune.data.config import DataConfig
from ristune.errors import InputError
from ristune.parallel import ray_running
from ristune.storage.access import Storage

# Seconds for a node to answer: a new machine reads torch from a disk that is still empty.
LIMIT = 120.0
# Seconds for an address to answer at all.
KNOCK = 10.0
# Clocks are compared this often; the quickest round trip tells most.
ROUND_TRIPS = 7
# Ray's own mark of the head, among a node's resources.
HEAD = "node:__internal_head__"
FOLDER = ".ristune-doctor-"
# What the asking process writes for all others to see.
MARK = "mark"


def look(address: str, storage: Storage | None, data: DataConfig, limit: float = LIMIT) -> list[Node]:
    """Ask every node of a running cluster.

    Args:
        address: of the cluster, or auto.
        storage: the sweep's output; None if it is not to be tried.
        data: where nodes keep datasets.
        limit: seconds that a node has for each answer.

    Raises:
        InputError: if no cluster answers there.
    """
    with _joined(address):
        nodes = {each["NodeID"]: _node(each) for each in ray.nodes() if each["Alive"]}
        probes = {key: _probe(key) for key in nodes}
        try:
            _ask(nodes, "software", {key: probe.software.remote() for key, probe in probes.items()}, limit)
            answering = {key: probe for key, probe in probes.items() if not nodes[key].fault}
            for key, probe in answering.items():
                nodes[key] = _with_clock(nodes[key], probe, limit)
            _ask(nodes, "space", {key: probe.space.remote(data) for key, probe in answering.items()}, limit)
            if storage is not None:
                with _mark(storage) as (folder, mark):
                    asked = {
                        key: probe.store.remote(storage, folder, key, mark)
                        for key, probe in answering.items()
                    }
                    _ask(nodes, "store", asked, limit)
        finally:
            for probe in probes.values():
                ray.kill(probe)
    return sorted(nodes.values(), key=lambda node: (not node.head, node.name))


@contextmanager
def _joined(address: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            _knock(address)
            stack.enter_context(ray_running(0, 0, address, {}))
        # Of the system for an address, of Ray for auto.
        except OSError as refused:
            rule = f"no cluster answers there ({' '.join(str(refused).split())})"
            remedy = "run it on the head: ray exec FILE 'python -m ristune.doctor --cluster FILE --live'"
            raise InputError("--address", address, rule, remedy) from refused
        yield


def _knock(address: str) -> None:
    """Try an address: Ray itself would go on trying for minutes.

    Raises:
        OSError: if nobody answers.
    """
    host, found, port = address.rpartition(":")
    if found and port.isdigit():
        with socket.create_connection((host, int(port)), KNOCK):
            pass


def _node(found: Mapping[str, Any]) -> Node:
    name = f"{found['NodeManagerAddress']} {found['NodeManagerHostname']} {found['NodeID'][:6]}"
    resources = found["Resources"]
    return Node(name, found["NodeManagerAddress"], HEAD in resources, int(resources.get("GPU", 0)))


def _probe(node: str) -> Any:
    """A process on that node and no other, which takes nothing from trials."""
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, num_gpus=0, max_restarts=0, scheduling_strategy=here)(Probe).remote()


def _ask(nodes: dict[str, Node], what: str, asked: Mapping[str, Any], limit: float) -> None:
    """Note the answers of all, or why there is none."""
    ends = time.monotonic() + limit
    for key, answer in asked.items():
        if nodes[key].fault:
            continue
        try:
            got = ray.get(answer, timeout=max(0.0, ends - time.monotonic()))
            nodes[key] = replace(nodes[key], **{what: got})
        except GetTimeoutError:
            nodes[key] = replace(nodes[key], fault=f"no answer on its {what} for {limit:g} s")
        except RayError as error:
            nodes[key] = replace(nodes[key], fault=f"no answer on its {what}: {_reason(error)}")


def _with_clock(node: Node, probe: Any, limit: float) -> Node:
    """The offset of a node's clock: half of the quickest round trip is the most it may be wrong."""
    trips = []
    try:
        for _ in range(ROUND_TRIPS):
            sent = time.time()
            there = ray.get(probe.now.remote(), timeout=limit)
            back = time.time()
            trips.append((back - sent, there - (sent + back) / 2))
    except (GetTimeoutError, RayError) as error:
        return replace(node, fault=f"no answer on its clock: {_reason(error)}")
    took, ahead = min(trips)
    return replace(node, clock=Clock(ahead, took / 2))


@contextmanager
def _mark(storage: Storage) -> Iterator[tuple[str, str | None]]:
    """A folder in the output with a file of this process; removed afterwards."""
    folder = f"{FOLDER}{uuid4().hex[:12]}"
    mark: str | None = MARK
    try:
        storage.write_atomic(f"{folder}/{MARK}", b"0")
    # The nodes say it each for itself: this process may be on none of them.
    except InputError:
        mark = None
    try:
        yield folder, mark
    finally:
        if mark is not None:
            storage.remove_tree(folder)


def _reason(error: Exception) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
