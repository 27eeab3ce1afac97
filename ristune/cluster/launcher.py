"""A cluster file, and Ray's own launcher: whether its head is there, start it, take it down."""

import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
import jsonschema
import yaml
from ray.autoscaler import tags
from ray.autoscaler._private import commands
from ray.autoscaler._private.util import prepare_config, validate_config

from ristune.errors import InputError

DASHBOARD_PORT = 8265
# Of its launcher's log, where that failed.
SHOWN_LINES = 12
# Where Ray looks for a node's token.
TOKEN = ".ray/auth_token"


class ClusterFailure(RuntimeError):
    """The cluster, or the way to it, failed; the message says what, and where more is said of it."""


@dataclass(frozen=True)
class ClusterFile:
    """A file that Ray's launcher takes.

    Attributes:
        path: of the file.
        content: as it stands there.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the cluster."""
        return str(self.content["cluster_name"])

    @property
    def dashboard_port(self) -> int:
        """On which the head takes jobs, on its loopback."""
        found = re.search(r"--dashboard-port[= ]\s*(\d+)", " ".join(self._head_commands))
        return int(found[1]) if found else DASHBOARD_PORT

    @property
    def python(self) -> str:
        """The head's interpreter, for a shell there: the one that stands beside the `ray` that starts it."""
        for command in self._head_commands:
            found = re.search(r"(\S*/)ray start\b", command)
            if found:
                return f"{found[1]}python3"
        return "python3"

    @property
    def container(self) -> str | None:
        """Of the head, if Ray runs in one there."""
        name = (self.content.get("docker") or {}).get("container_name")
        return None if name is None else str(name)

    @property
    def token(self) -> str | None:
        """That its nodes have: the one shipped to them, else this user's; None if there is none.

        Raises:
            InputError: if the one to be shipped is not there.
        """
        for there, here in (self.content.get("file_mounts") or {}).items():
            if str(there).endswith(TOKEN):
                path = Path(str(here)).expanduser()
                if not path.is_file():
                    rule = "the token that every node is to have must be there"
                    raise InputError(
                        "file_mounts", str(here), rule, "make it: ray get-auth-token --generate > /dev/null"
                    )
                return path.read_text().strip()
        if "RAY_AUTH_TOKEN" in os.environ:
            return os.environ["RAY_AUTH_TOKEN"]
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / TOKEN)).expanduser()
        return path.read_text().strip() if path.is_file() else None

    @property
    def _head_commands(self) -> list[str]:
        return list(self.content.get("head_start_ray_commands") or ())


@dataclass(frozen=True)
class Head:
    """How to log in to a head.

    Attributes:
        address: its name or IP address.
        user: to log in as.
        key: file of the private key; None for those of the user's own configuration.
        proxy: command that connects to it; None to do so directly.
    """

    address: str
    user: str
    key: str | None = None
    proxy: str | None = None


def read_cluster(path: Path) -> ClusterFile:
    """Read a cluster file.

    Raises:
        InputError: if it cannot be read, or Ray would refuse it.
    """
    rule, remedy = "it must be a cluster file of `ray up`", "see ray_cluster.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError("--cluster", str(path), f"{rule} ({_line(error)})", remedy) from error
    if not isinstance(content, dict) or not isinstance(content.get("provider"), dict):
        raise InputError("--cluster", str(path), f"{rule}, with a provider", remedy)
    try:
        with _quiet():
            validate_config(prepare_config(content))
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "the file"
        raise InputError("--cluster", str(path), f"{rule} ({place}: {error.message})", remedy) from error
    except (click.ClickException, KeyError, TypeError, ValueError) as error:
        raise InputError("--cluster", str(path), f"{rule} ({_line(error)})", remedy) from error
    return ClusterFile(path, content)


def find_head(cluster: ClusterFile) -> Head | None:
    """The head of a cluster that is up; None if there is none.

    Args:
        cluster: its file.
    """
    with _quiet():
        config: dict[str, Any] = yaml.safe_load(cluster.path.read_text())
        provider = commands._get_node_provider(config["provider"], config["cluster_name"])
        heads = provider.non_terminated_nodes({tags.TAG_RAY_NODE_KIND: tags.NODE_KIND_HEAD})
        up = [
            node
            for node in heads
            if provider.node_tags(node).get(tags.TAG_RAY_NODE_STATUS) == tags.STATUS_UP_TO_DATE
        ]
        if not up:
            return None
        inside = config["provider"].get("use_internal_ips") and not config["provider"].get(
            "use_external_head_ip"
        )
        address = provider.internal_ip(up[0]) if inside else provider.external_ip(up[0])
        auth = config.get("auth") or {}
        if not auth.get("ssh_private_key") and config["provider"]["type"] != "local":
            # The launcher has made a key of its own, and knows where.
            auth = commands._bootstrap_config(config)["auth"]
    key = auth.get("ssh_private_key")
    return Head(
        str(address),
        str(auth["ssh_user"]),
        None if key is None else str(Path(key).expanduser()),
        auth.get("ssh_proxy_command"),
    )


def start(cluster: ClusterFile, log: TextIO) -> None:
    """Bring a cluster's head up, which restarts Ray if it runs there.

    Args:
        cluster: its file.
        log: where Ray's launcher writes.

    Raises:
        ClusterFailure: if it did not come up.
    """
    _launch(["up", "--yes", str(cluster.path)], log)


def take_down(cluster: ClusterFile, log: TextIO) -> None:
    """End all nodes of a cluster.

    Args:
        cluster: its file.
        log: where Ray's launcher writes.

    Raises:
        ClusterFailure: if the launcher failed.
    """
    _launch(["down", "--yes", str(cluster.path)], log)


def _launch(words: list[str], log: TextIO) -> None:
    log.write(f"$ ray {shlex.join(words)}\n")
    log.flush()
    status = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    ).returncode
    if status:
        last = Path(log.name).read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        said = "\n".join(line for line in last if line.strip())
        raise ClusterFailure(f"`ray {shlex.join(words)}` ended with {status}; see {log.name}:\n{said}")


@contextmanager
def _quiet() -> Iterator[None]:
    """What Ray's launcher prints and logs is for people who started it."""
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
