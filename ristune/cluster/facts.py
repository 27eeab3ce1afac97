"""What the nodes of a running cluster say of themselves, and what of it is wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ristune.cluster.finding import Finding, Judged, error, judged, unknown, warning

GB, MB = 1e9, 1e6
# Seconds that a clock may be off: from the first on logs are hard to read, from the second on stores refuse
# requests soon (S3 at 900).
CLOCK_WARNING, CLOCK_ERROR = 2.0, 300.0
# Bytes a second below which a checkpoint takes longer than an epoch may.
SLOW = 5e6


@dataclass(frozen=True)
class Software:
    """What a node runs.

    Attributes:
        versions: by name: Ray, Python, torch, ristune.
        driver: version of NVIDIA's driver; empty where there is none.
        gpus: those that torch sees.
    """

    versions: tuple[tuple[str, str], ...]
    driver: str
    gpus: int


@dataclass(frozen=True)
class Clock:
    """Seconds that a clock is ahead of the asking process's, and how far that may be wrong."""

    ahead: float
    error: float


@dataclass(frozen=True)
class Store:
    """How a node reaches the sweep's output.

    Attributes:
        written: bytes a second; None if it failed.
        read: likewise.
        shared: whether it sees what another node wrote.
        fault: why it failed.
    """

    written: float | None
    read: float | None
    shared: bool
    fault: str = ""


@dataclass(frozen=True)
class Space:
    """Where a node keeps datasets, and the most that fits into one of these places, in bytes."""

    place: str
    bytes: int
    fault: str = ""


@dataclass(frozen=True)
class Node:
    """A node of a running cluster, and its answers.

    Attributes:
        name: address, host and the beginning of its id.
        address: its address.
        head: whether it is the head.
        gpus: those that Ray counts.
        fault: why it did not answer; empty if it did.
        software: what it runs; None if it did not answer.
        clock: likewise.
        store: likewise, or if there is no output.
        space: likewise.
    """

    name: str
    address: str
    head: bool
    gpus: int
    fault: str = ""
    software: Software | None = None
    clock: Clock | None = None
    store: Store | None = None
    space: Space | None = None


@dataclass(frozen=True)
class Expected:
    """What a running cluster is held against.

    Attributes:
        versions: of the asking process.
        hosts: addresses that must have joined.
        least: nodes that must have joined, the head among them.
        output: where the sweep writes; None if nobody has said.
        dataset_bytes: that a node must have room for; None if it is not known.
    """

    versions: tuple[tuple[str, str], ...]
    hosts: tuple[str, ...]
    least: int
    output: str | None
    dataset_bytes: int | None


def answers(nodes: Sequence[Node], expected: Expected) -> Judged:
    """Every node that is to be there has joined, and answers."""
    found = [
        error(node.name, node.fault, "it must answer", "look at it; `ray up` sets a broken node up again")
        for node in nodes
        if node.fault
    ]
    addresses = {node.address for node in nodes}
    for host in expected.hosts:
        if host not in addresses:
            rule = "the cluster's file names this host, and it has not joined"
            remedy = "see `ray monitor` on the head; a node without the token is refused"
            found.append(error(host, None, rule, remedy))
    if len(nodes) < expected.least:
        rule = f"the cluster's file asks for {expected.least} at least"
        found.append(warning("nodes", len(nodes), rule, "wait, or see `ray monitor` on the head"))
    return judged(found, f"{len(nodes)} nodes, all answer")


def software(nodes: Sequence[Node], expected: Expected) -> Judged:
    """All nodes run the same versions."""
    reference = next((node.software.versions for node in nodes if node.head and node.software), None)
    wanted = reference or expected.versions
    found = []
    for node in nodes:
        for (name, version), (_, right) in zip(_versions(node), wanted, strict=False):
            if _compared(name, version) != _compared(name, right):
                rule = f"all nodes must run the same {name}; the head has {right}"
                remedy = "run the setup commands again: `ray up --restart-only` does not"
                found.append(error(node.name, f"{name} {version}", rule, remedy))
    return judged(found, ", ".join(f"{name} {version}" for name, version in wanted))


def gpus(nodes: Sequence[Node], expected: Expected) -> Judged:
    """Torch sees every GPU that Ray gives to trials."""
    found: list[Finding] = []
    known = [(node, node.software) for node in nodes if node.software is not None]
    for node, its in known:
        if its.gpus < node.gpus:
            rule = f"Ray gives out {node.gpus} GPUs there; driver: {its.driver or 'none'}"
            remedy = "install a torch for that driver's CUDA, or correct the type's resources"
            found.append(error(node.name, f"torch sees {its.gpus} GPUs", rule, remedy))
    drivers = {its.driver for node, its in known if node.gpus}
    if len(drivers) > 1:
        rule = "drivers differ, and with them speed and rounding"
        found.append(warning("nodes", ", ".join(sorted(drivers)), rule, "use one image for all workers"))
    total = sum(node.gpus for node in nodes)
    return judged(found, f"{total} GPUs" + (f", driver {', '.join(drivers)}" if drivers else ""))


def clock(nodes: Sequence[Node], expected: Expected) -> Judged:
    """Clocks agree with the head's."""
    known = [(node, node.clock) for node in nodes if node.clock is not None]
    base = next((its.ahead for node, its in known if node.head), 0.0)
    found, worst = [], 0.0
    for node, its in known:
        ahead = its.ahead - base
        worst = max(worst, abs(ahead))
        # What the round trip may have hidden is not held against a node.
        sure = abs(ahead) - its.error
        if sure > CLOCK_WARNING:
            say = error if sure > CLOCK_ERROR else warning
            rule = f"at most {CLOCK_WARNING:g} s from the head's; object stores refuse what is 900 s off"
            value = f"{ahead:+.1f} s (within {its.error:.3f})"
            found.append(say(node.name, value, rule, "start chrony or systemd-timesyncd there"))
    return judged(found, f"at most {worst * 1000:.1f} ms from the head's")


def storage(nodes: Sequence[Node], expected: Expected) -> Judged:
    """Every node reads and writes the sweep's output, at a bearable rate."""
    if expected.output is None:
        return unknown("give the sweep's output=... to have it tried")
    known = [(node, node.store) for node in nodes if node.store is not None]
    found: list[Finding] = []
    for node, its in known:
        if its.fault:
            rule = "every node must read and write the sweep's output"
            remedy = "correct the role or the keys of the node, or the mount"
            found.append(error(node.name, f"{expected.output}: {its.fault}", rule, remedy))
        elif not its.shared:
            rule = "it does not see there what another node wrote: the folder is its own"
            remedy = "give output=s3://BUCKET/PATH, or mount a shared folder"
            found.append(error(node.name, expected.output, rule, remedy))
        elif min(its.written or 0, its.read or 0) < SLOW:
            rule = f"{SLOW / MB:g} MB/s or more: checkpoints would wait for it"
            value = f"written at {(its.written or 0) / MB:.1f}, read at {(its.read or 0) / MB:.1f} MB/s"
            found.append(warning(node.name, value, rule, "use a bucket of the same region"))
    written, read = (_least(known, each) for each in (lambda its: its.written, lambda its: its.read))
    return judged(found, f"{expected.output}: written at {written} MB/s or more, read at {read} or more")


def cache_space(nodes: Sequence[Node], expected: Expected) -> Judged:
    """Every worker has room for the dataset."""
    known = [(node, node.space) for node in nodes if node.space is not None and not node.head]
    found = []
    for node, its in known:
        if its.fault:
            found.append(error(node.name, its.place, its.fault, "give another folder as data.cache"))
        elif expected.dataset_bytes is not None and its.bytes < expected.dataset_bytes:
            rule = f"the dataset takes {expected.dataset_bytes / GB:.1f} GB"
            value = f"{its.bytes / GB:.1f} GB in {its.place}"
            found.append(error(node.name, value, rule, "take larger disks, or set data.mode=windowed"))
    if not known:
        return unknown("no worker has answered")
    least = min(its.bytes for _, its in known) / GB
    size = "not known" if expected.dataset_bytes is None else f"{expected.dataset_bytes / GB:.1f} GB"
    return judged(found, f"{least:.1f} GB or more on every worker; the dataset: {size}")


def describe(node: Node) -> str:
    """A node in a line."""
    parts = [node.name + (" (head)" if node.head else "")]
    if node.software is not None:
        parts += [f"{name} {version}" for name, version in node.software.versions]
        parts.append(f"driver {node.software.driver}, {node.software.gpus} GPUs" if node.gpus else "no GPU")
    if node.clock is not None:
        parts.append(f"clock {node.clock.ahead:+.4f} s within {node.clock.error:.4f}")
    if node.store is not None and node.store.written and node.store.read:
        parts.append(f"writes {node.store.written / MB:.0f}, reads {node.store.read / MB:.0f} MB/s")
    if node.space is not None:
        parts.append(f"{node.space.bytes / GB:.1f} GB for datasets in {node.space.place}")
    return ", ".join(parts)


def _compared(name: str, version: str) -> str:
    """What of a version must be equal: Python's minor one, the others' but for how they were built."""
    return version.rpartition(".")[0] if name == "Python" else version.partition("+")[0]


def _versions(node: Node) -> tuple[tuple[str, str], ...]:
    return node.software.versions if node.software is not None else ()


def _least(known: Sequence[tuple[Node, Store]], rate: Callable[[Store], float | None]) -> str:
    rates = [rate(its) or 0.0 for _, its in known]
    return f"{min(rates) / MB:.0f}" if rates else "?"
