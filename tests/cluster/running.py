"""A cluster that was brought up on a test bed, with an S3 server that all its hosts reach."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.testbed import bed
from tests.s3.radosgw import Radosgw

UP_SECONDS = 150.0
# Prints the nodes, once those named are in and no others; at once if none is named.
_NODES = """
import json, ray, sys, time
ray.init("auto", logging_level="ERROR", log_to_driver=False)
wanted = sorted(sys.argv[1:])
while True:
    nodes = [[n["NodeManagerHostname"], n["Alive"], n["Resources"].get("CPU", 0)] for n in ray.nodes()]
    if not wanted or wanted == sorted(host for host, alive, cores in nodes if alive):
        break
    time.sleep(1)
print(json.dumps(nodes))
"""


@dataclass(frozen=True)
class Node:
    """A node as Ray's head has it; one that was lost stays in the list, dead.

    Attributes:
        host: its host.
        alive: whether it is in.
        cores: what trials may use of it.
    """

    host: str
    alive: bool
    cores: float


@dataclass(frozen=True)
class Cluster:
    """A head and two workers.

    Attributes:
        bed: their hosts.
        bucket: URI of a bucket that is reached from every host and from here.
        environment: for commands run here, as on a laptop: the token, and the bucket's keys.
    """

    bed: bed.Bed
    bucket: str
    environment: dict[str, str]

    @property
    def cluster_file(self) -> Path:
        """For `ray up`, `ray exec` and their kin."""
        return self.bed.cluster_file

    @property
    def workers(self) -> list[str]:
        """The hosts beside the head."""
        return self.bed.hosts[1:]

    def ray(self, *arguments: str, timeout: float = UP_SECONDS) -> str:
        """Run `ray` here, as on a laptop; what it printed."""
        return _run([f"{sys.prefix}/bin/ray", *arguments], timeout, self.environment)

    def up(self) -> None:
        """`ray up`: also after the head was lost."""
        self.ray("up", "--yes", "--no-config-cache", str(self.cluster_file))

    def head_exec(self, command: str, timeout: float = 60.0) -> str:
        """Run a shell's command on the head; what it printed, errors as well.

        Raises:
            RuntimeError: with all that it printed, if it fails.
        """
        return self.execute(bed.HEAD, command, timeout)

    def execute(self, host: str, command: str, timeout: float = 60.0) -> str:
        """Run a shell's command on a host, as `head_exec`; also on one whose network is cut."""
        return _run(bed.command_in(self.bed, host, command), timeout)

    def nodes(self) -> list[Node]:
        """The nodes that have ever joined the head."""
        return self._nodes(60.0)

    def wait_for(self, *hosts: str, timeout: float = UP_SECONDS) -> list[Node]:
        """The nodes, as soon as these hosts, and no others, are in.

        Raises:
            RuntimeError: with the autoscaler's last words, if they are not in time.
        """
        try:
            return self._nodes(timeout, *hosts)
        except RuntimeError as error:
            last = self.head_exec("tail -n 60 /tmp/ray/session_latest/logs/monitor.out")
            raise RuntimeError(f"not in after {timeout:g} s: {hosts}, but {self.nodes()}\n{last}") from error

    def cut(self, host: str) -> None:
        """Cut a host's network."""
        bed.cut(self.bed, host)

    def mend(self, host: str) -> None:
        """Mend it."""
        bed.mend(self.bed, host)

    def kill_host(self, host: str) -> None:
        """End a host as a preempted machine ends: Ray hears of it at once, of one that is cut in a minute."""
        bed.kill(self.bed, host)

    def revive(self, host: str) -> None:
        """Start it again, without Ray: the head logs in to workers, `up` to the head."""
        bed.revive(self.bed, host)

    def _nodes(self, timeout: float, *wanted: str) -> list[Node]:
        command = f"timeout {timeout} python -c '{_NODES}' {' '.join(wanted)}"
        printed = self.head_exec(command, timeout + 10)
        return [Node(*each) for each in json.loads(printed.splitlines()[-1])]


@contextmanager
def bring_up(folder: Path) -> Iterator[Cluster]:
    """A cluster whose workers are in, for as long as the block lasts.

    Args:
        folder: for the bed; must not be there yet.
    """
    hosts = bed.up(folder)
    try:
        with Radosgw(address=hosts.gateway) as store:
            store.make_bucket("sweeps")
            keys = folder / "credentials"
            keys.write_text(
                f"[default]\naws_access_key_id = {store.keys.access}\n"
                f"aws_secret_access_key = {store.keys.secret}\n"
            )
            bucket = store.uri("sweeps")
            bed.write_cluster_file(hosts, bucket, keys)
            aws = {"AWS_ACCESS_KEY_ID": store.keys.access, "AWS_SECRET_ACCESS_KEY": store.keys.secret}
            running = Cluster(hosts, bucket, {**os.environ, **hosts.environment, **aws})
            running.up()
            running.wait_for(*hosts.hosts)
            yield running
    finally:
        bed.down(folder)


def _run(line: list[str], timeout: float, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        line,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(f"{line[-1]!r} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout
