"""The network of a test bed: a bridge, which the machine is on too, and a cable to each host."""

import json
from pathlib import Path

from cluster.testbed import system

# 10.77.0.0/24 if no other bed has it.
_NETWORKS = [f"10.77.{number}" for number in range(256)]


def choose() -> str:
    """The first three numbers of a network that no bridge of the machine has."""
    taken = {
        address["local"].rpartition(".")[0]
        for link in json.loads(system.run("ip", "-json", "-4", "address", "show"))
        for address in link["addr_info"]
    }
    return next(network for network in _NETWORKS if network not in taken)


def make_bridge(bridge: str, network: str) -> None:
    """A bridge with the machine's own address, the first of the network."""
    system.run("ip", "link", "add", bridge, "type", "bridge")
    system.run("ip", "address", "add", f"{network}.1/24", "dev", bridge)
    system.run("ip", "link", "set", bridge, "up")


def connect(bridge: str, cable: str, first: int, network: str, address: str) -> None:
    """Lay a cable from the bridge to a host, and give the host its address.

    Args:
        bridge: its name.
        cable: name of the cable's end at the bridge.
        first: process 1 of the host.
        network: its first three numbers.
        address: of the host.
    """
    peer = ["peer", "name", "eth0", "netns", str(first)]
    system.run("ip", "link", "add", cable, "type", "veth", *peer)
    system.run("ip", "link", "set", cable, "master", bridge, "up")
    inside = ["nsenter", f"--target={first}", "--net", "ip"]
    system.run(*inside, "link", "set", "lo", "up")
    system.run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
    system.run(*inside, "link", "set", "eth0", "up")
    # Ray finds its own address by the way out, though there is nothing behind it.
    system.run(*inside, "route", "add", "default", "via", f"{network}.1")


def switch(cable: str, state: str) -> None:
    """Cut a cable (`down`) or mend it (`up`)."""
    system.run("ip", "link", "set", cable, state)


def is_cut(cable: str) -> bool:
    """Whether a cable that is there is cut."""
    [link] = json.loads(system.run("ip", "-json", "link", "show", "dev", cable))
    return "UP" not in link["flags"]


def present(names: list[str]) -> list[str]:
    """Those of some links that the machine has."""
    return [name for name in names if Path("/sys/class/net", name).exists()]


def remove(names: list[str]) -> None:
    """Remove links that may be there; a cable goes with either of its ends, a moment after its host."""
    for name in present(names):
        try:
            system.run("ip", "link", "delete", name)
        except RuntimeError:
            if present([name]):
                raise
