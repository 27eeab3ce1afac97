"""Ray's process of a node: which one it is, that nothing new comes to it, and its end."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ristune.preemption import VARIABLE

# Seconds that Ray's head may take to answer.
TIMEOUT = 15.0
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Raylet:
    """The process of a node that starts and watches Ray's workers there.

    Attributes:
        pid: its process.
        node: Ray's id of the node.
        head: where the cluster's head answers.
        variables: its environment, which is that of its workers.
    """

    pid: int
    node: str
    head: str
    variables: dict[str, str]

    def alive(self) -> bool:
        """Whether it runs; another process that got its id is not it."""
        return _option(_words(self.pid, "cmdline"), "--node_id") == self.node

    def end(self) -> None:
        """Have it leave the cluster and end."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def drain(self, reason: str, seconds: float) -> str:
        """Have Ray give it nothing new, and end it once nothing runs there any more.

        Args:
            reason: for Ray's log.
            seconds: after which it will be gone.

        Returns:
            Why Ray does not; empty if it does.
        """
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", self.head, "--node-id", self.node),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", reason),
            *("--deadline-remaining-seconds", str(max(0, round(seconds)))),
        ]
        # As it was started: with a token, or without.
        ray = {name: value for name, value in self.variables.items() if name.startswith("RAY_")}
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **ray},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return f"the head at {self.head} has not answered within {TIMEOUT:g} s"
        lines = done.stdout.split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return "" if done.returncode == 0 else (said or ["without a word"])[-1]


def find(notice: Path) -> Raylet | None:
    """The raylet whose workers look for a notice; None if there is none.

    Args:
        notice: where they look for it.
    """
    wanted = f"{VARIABLE}={notice}"
    for entry in PROCESSES.iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        words = _words(pid, "cmdline")
        node, head = _option(words, "--node_id"), _option(words, "--gcs-address")
        if words and Path(words[0]).name == "raylet" and node and head:
            environment = _words(pid, "environ")
            if wanted in environment:
                variables = dict(word.split("=", 1) for word in environment if "=" in word)
                return Raylet(pid, node, head, variables)
    return None


def _words(pid: int, file: str) -> list[str]:
    """A command line or an environment; empty of a process that has ended, or is another user's."""
    try:
        text = (PROCESSES / str(pid) / file).read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return text.split("\0")


def _option(words: list[str], name: str) -> str:
    found = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
    return found[0] if found else ""
