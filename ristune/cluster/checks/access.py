"""Who may come in: the token that nodes know each other by, and the networks that reach them."""

import ipaddress
import re

from ristune.cluster.asked import TOKEN, Asked, is_token
from ristune.cluster.checks.shell import ray_starts, sets, simple_commands
from ristune.cluster.cluster_file import ClusterFile, at
from ristune.cluster.finding import Finding, Judged, error, judged, unknown, warning

MODE, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"


def token(cluster: ClusterFile, asked: Asked) -> Judged:
    """Every node has the token, and every `ray start` asks for it."""
    found: list[Finding] = []
    starts = {
        "head_start_ray_commands": cluster.head_start,
        "worker_start_ray_commands": cluster.worker_start,
    }
    for name, commands in starts.items():
        if not ray_starts(commands):
            rule = "Ray's own commands ask for no token"
            found.append(error(name, None, rule, f"give them, with {MODE}=token before `ray start`"))
        for command in ray_starts(commands):
            if not sets(command.text, MODE, "token"):
                rule = f"every `ray start` needs {MODE}=token: nodes that differ are refused"
                remedy = f"write {MODE}=token before `ray start`"
                found.append(error(command.place, command.text, rule, remedy))
    paths = [*cluster.file_mounts, *cluster.synced]
    elsewhere = _token_paths(cluster)
    if not any(is_token(path) or path in elsewhere for path in paths):
        rule = "the token must be on every node: without it a worker is refused, and `ray up` says success"
        remedy = f'add "~/{TOKEN}": "~/{TOKEN}"'
        found.append(error("file_mounts", ", ".join(paths) or None, rule, remedy))
    made = not any(is_token(path) for path in asked.shipped.later)
    later = "" if made else " (none here yet: `ray get-auth-token --generate`)"
    return judged(found, f"on every node{later}, and asked for by every `ray start`")


def network(cluster: ClusterFile, asked: Asked) -> Judged:
    """No port is open to the whole world."""
    if cluster.provider != "aws":
        return unknown(f"firewalls of provider {cluster.provider} are not in the file")
    place = "provider.security_group"
    permissions = at(cluster.document, "provider", "security_group", "IpPermissions") or []
    found = []
    for index, permission in enumerate(permissions):
        for network in _networks(permission):
            if _is_world(network):
                ports = f"ports {at(permission, 'FromPort')} to {at(permission, 'ToPort')}"
                rule = f"{ports} are open to the whole world, and who reaches Ray's may run anything"
                remedy = "give your own network, such as 203.0.113.0/24"
                found.append(error(f"{place}.IpPermissions[{index}]", network, rule, remedy))
    bare = [each.name for each in (cluster.head, *cluster.workers) if not each.security_groups]
    name = at(cluster.document, "provider", "security_group", "GroupName")
    if bare and not name and not found:
        rule = f"Ray makes a group for {', '.join(bare)} that takes SSH from the whole world"
        remedy = "make a group that lets in itself and your network, and give its GroupName"
        found.append(warning(place, None, rule, remedy))
    new = "as it is; if it is new, Ray lets the whole world try SSH"
    said = f"group {name} {new}" if bare else "groups by SecurityGroupIds, as they are"
    return judged(found, f"{said}; {len(permissions)} rules in the file, none for the whole world")


def _token_paths(cluster: ClusterFile) -> set[str]:
    """Where nodes are told to look for the token, if all are."""
    per_role = []
    for commands in (cluster.head_start, cluster.worker_start):
        parts = [part for command in ray_starts(commands) for part in simple_commands(command.text)]
        per_role.append({match for part in parts for match in re.findall(rf"{TOKEN_PATH}=(\S+)", part)})
    return per_role[0] & per_role[1]


def _networks(permission: object) -> list[str]:
    ranges = [("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")]
    return [str(at(each, key)) for name, key in ranges for each in at(permission, name) or []]


def _is_world(network: str) -> bool:
    try:
        return ipaddress.ip_network(network, strict=False).prefixlen == 0
    # Not a network at all: the provider refuses it.
    except ValueError:
        return False
