"""The way to a cluster's head: commands there, and a port of its loopback on ours, by ssh."""

import os
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ristune.cluster.launcher import Head

READY = "ristune-tunnel-is-open"
# Seconds to connect, and between two signs of life; how many of them may be missing.
CONNECT_TIMEOUT, ALIVE_INTERVAL, ALIVE_COUNT = 20, 5, 4
OPTIONS = (
    # Nobody is asked: a tunnel is opened again and again, also while nobody looks.
    ("BatchMode", "yes"),
    ("ExitOnForwardFailure", "yes"),
    ("ServerAliveInterval", str(ALIVE_INTERVAL)),
    ("ServerAliveCountMax", str(ALIVE_COUNT)),
    ("ConnectTimeout", str(CONNECT_TIMEOUT)),
    # As Ray's launcher does: nodes come and go, and their addresses are given to others.
    ("StrictHostKeyChecking", "no"),
    ("UserKnownHostsFile", os.devnull),
    ("LogLevel", "ERROR"),
)


class ConnectionLost(ConnectionError):
    """There is no way to the head now; there may be one in a moment."""


def ssh(head: Head, command: str, *options: str) -> list[str]:
    """A command line that runs a shell command on the head.

    Args:
        head: how to log in.
        command: for the shell there.
        options: of ssh, before all others; without any there is no terminal.
    """
    words = ["ssh", *(options or ["-T"])]
    for name, value in OPTIONS:
        words += ["-o", f"{name}={value}"]
    if head.key is not None:
        words += ["-i", head.key, "-o", "IdentitiesOnly=yes"]
    if head.proxy is not None:
        words += ["-o", f"ProxyCommand={head.proxy}"]
    return [*words, f"{head.user}@{head.address}", command]


def inside(command: str, container: str | None) -> str:
    """A shell command for the head as one for where Ray runs there, with the environment of a login.

    Args:
        command: for a shell.
        container: in which Ray runs; None if it is the host itself.
    """
    there = f"bash --login -c {shlex.quote(command)}"
    return there if container is None else f"docker exec -i {shlex.quote(container)} {there}"


@contextmanager
def tunnel(head: Head, port: int) -> Iterator[int]:
    """A port of ours that leads to one of the head's loopback, for a while; only this machine reaches it.

    Args:
        head: how to log in.
        port: of the head.

    Yields:
        Our port.

    Raises:
        ConnectionLost: if there is no way to the head.
    """
    ours = _free_port()
    forward = f"127.0.0.1:{ours}:127.0.0.1:{port}"
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            # It ends when its input does: with this process, however that ends.
            ssh(head, f"echo {READY}; exec cat > /dev/null", "-T", "-L", forward),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            # Ctrl-C is for us: the way must stay open to stop a sweep.
            start_new_session=True,
        )
        assert process.stdout is not None and process.stdin is not None
        try:
            # A shell's own files may say something first.
            if not any(line.strip() == READY.encode() for line in process.stdout):
                process.wait()
                said.seek(0)
                reason = " ".join(said.read().decode(errors="replace").split())
                raise ConnectionLost(f"ssh {head.user}@{head.address}: {reason or 'closed at once'}")
            yield ours
        finally:
            process.terminate()
            process.stdin.close()
            process.stdout.close()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
