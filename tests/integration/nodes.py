"""A Ray cluster of several nodes on this machine, each with an environment and agents of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ristune.cluster import raylet
from ristune.preemption import VARIABLE
from tests.integration.sweeps import environment, launch

START = ("ray.scripts.scripts", "start")
STAY = ("--block", "--disable-usage-stats", f"--object-store-memory={80 * 2**20}")
AGENT = "ristune.cluster.notice"


class Nodes:
    """A cluster whose head runs no trial, with a token.

    Args:
        home: of its files; its path must be short.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "token").write_text("0123456789abcdef" * 4)
        (home / "nodes").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.partition(":")[2]
        head = ("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
        self.launched = [
            launch([*START, *head, f"--temp-dir={home / 'r'}", *STAY], self.variables(self.notice("head")))
        ]
        self.find("head")

    def notice(self, name: str) -> Path:
        return self.home / "nodes" / name

    def variables(self, notice: Path | None = None) -> dict[str, str]:
        """The environment of all processes of the cluster, and of its driver."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.home / "token")}
        own = {} if notice is None else {VARIABLE: str(notice), "TMPDIR": str(self.home / "nodes")}
        return {**environment(self.home), **token, **own}

    def add(self, name: str, *agent: str) -> subprocess.Popen[str]:
        """A node for one trial, of an agent's command if there are arguments for one."""
        ray = [*START, f"--address={self.address}", "--num-cpus=1", *STAY]
        wrapped = [AGENT, *agent, "--", sys.executable, "-m", *ray] if agent else ray
        self.launched.append(launch(wrapped, self.variables(self.notice(name))))
        self.find(name)
        return self.launched[-1]

    def watch(self, name: str, *agent: str) -> subprocess.Popen[str]:
        """An agent beside a node."""
        self.launched.append(launch([AGENT, *agent], self.variables(self.notice(name))))
        return self.launched[-1]

    def find(self, name: str) -> raylet.Raylet:
        found: list[raylet.Raylet] = []

        def there() -> bool:
            assert all(process.poll() is None for process in self.launched)
            found.extend(filter(None, [raylet.find(self.notice(name))]))
            return bool(found)

        until(there, 60)
        return found[0]

    def end(self) -> None:
        """End all nodes, the head last."""
        for process in reversed(self.launched):
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)


def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it has not come to pass in {seconds} s"
        time.sleep(0.1)
