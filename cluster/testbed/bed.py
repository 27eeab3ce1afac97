"""A test bed: hosts of one machine with a bridge between them, its state in one folder."""

import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

import yaml

from cluster.testbed import cluster_file, host, network, system
from ristune.errors import InputError

FOLDER = Path(tempfile.gettempdir()) / "ristune-testbed"
HEAD = "head"
_STATE = "bed.json"


@dataclass(frozen=True)
class Bed:
    """What is written about a bed; all else is asked of the machine.

    Attributes:
        folder: of its hosts, keys and files.
        network: first three numbers of all its addresses.
        hosts: names, the head first.
    """

    folder: str
    network: str
    hosts: list[str]

    @property
    def tag(self) -> str:
        """What the names of its links end in; no other folder has it."""
        return hashlib.sha256(self.folder.encode()).hexdigest()[:6]

    @property
    def bridge(self) -> str:
        """Name of the bridge."""
        return f"ristune-{self.tag}"

    @property
    def gateway(self) -> str:
        """The machine's own address, by which hosts reach servers on it."""
        return f"{self.network}.1"

    @property
    def cluster_file(self) -> Path:
        """The file for `ray up`."""
        return self.path("cluster.yaml")

    @property
    def environment(self) -> dict[str, str]:
        """What `ray up` and its kin need in their environment, where one stands for a laptop."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.path("auth_token")),
            "RAY_TMPDIR": str(self.path("laptop")),
        }

    def path(self, name: str) -> Path:
        """A file of the bed."""
        return Path(self.folder, name)

    def own(self, name: str) -> Path:
        """The folder of a host."""
        return Path(self.folder, "hosts", name)

    def address(self, name: str) -> str:
        """The address of a host."""
        return f"{self.network}.{self.hosts.index(name) + 2}"

    def cable(self, name: str) -> str:
        """The end at the bridge of a host's cable."""
        return f"ris-{self.tag}-{self.hosts.index(name)}"

    def check(self, name: str) -> None:
        """Refuse a host that the bed does not have.

        Raises:
            InputError: naming those that it has.
        """
        if name not in self.hosts:
            raise InputError("host", name, "the bed has no such host", f"take one of {', '.join(self.hosts)}")

    def first_process(self, name: str) -> int:
        """Process 1 of a host that is up.

        Raises:
            InputError: if there is no such host, or it is not up.
        """
        self.check(name)
        first = host.first_process(self.own(name))
        if first is None:
            raise InputError("host", name, "it is not up", "`revive` starts it again")
        return first


def up(folder: Path = FOLDER, workers: int = 2) -> Bed:
    """Start a bed; half of one is taken away again.

    Args:
        folder: for its state; must not be there yet.
        workers: how many hosts there are beside the head.

    Raises:
        InputError: without root or the programs, or if the folder is there.
    """
    system.require_root()
    system.require_programs()
    folder = folder.resolve()
    if folder.exists():
        what = "a test bed is there already" if (folder / _STATE).exists() else "it is there already"
        raise InputError("--folder", str(folder), what, "`down` takes a bed away, also half of one")
    try:
        # One at a time: who chooses a network must have it before the next one looks.
        with _lock():
            bed = Bed(str(folder), network.choose(), [HEAD, *(f"worker{n + 1}" for n in range(workers))])
            for name in ("shared", "laptop"):
                (folder / name).mkdir(parents=True)
            bed.path(_STATE).write_text(json.dumps(asdict(bed)))
            network.make_bridge(bed.bridge, bed.network)
        _write_keys(bed)
        for name in bed.hosts:
            _prepare(bed, name)
            _start(bed, name)
        write_cluster_file(bed)
    except BaseException:
        down(folder)
        raise
    return bed


def load(folder: Path = FOLDER) -> Bed:
    """The bed of a folder.

    Raises:
        InputError: without root or the programs, or if there is no bed.
    """
    system.require_root()
    system.require_programs()
    state = folder.resolve() / _STATE
    if not state.exists():
        raise InputError("--folder", str(folder), "there is no test bed", "`up` starts one")
    return Bed(**json.loads(state.read_text()))


def down(folder: Path = FOLDER) -> None:
    """Take a bed away, or what is left of one: processes, cables, bridge and folder.

    Raises:
        InputError: if the folder is none of a bed.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder / _STATE).exists() and {*os.listdir(folder)} - {"shared", "laptop"}:
        raise InputError("--folder", str(folder), "this is no test bed's folder", "give the one of a bed")
    if (folder / _STATE).exists():
        bed = load(folder)
        for name in bed.hosts:
            host.kill(bed.own(name))
        network.remove([*map(bed.cable, bed.hosts), bed.bridge])
    if folder.exists():
        shutil.rmtree(folder)


def write_cluster_file(bed: Bed, bucket: str | None = None, credentials: Path | None = None) -> None:
    """Write the file for `ray up`.

    Args:
        bed: it.
        bucket: what the hosts' checks read and write; the folder that all hosts share if None.
        credentials: AWS's file with the bucket's keys.
    """
    addresses = [bed.address(name) for name in bed.hosts]
    keys = bed.path("key"), bed.path("auth_token")
    shared = "/home/shared"
    content = cluster_file.fill(f"bed-{bed.tag}", addresses, *keys, bucket or shared, credentials)
    bed.cluster_file.write_text(yaml.safe_dump(content, sort_keys=False))


def cut(bed: Bed, name: str) -> None:
    """Cut a host's network."""
    bed.first_process(name)
    network.switch(bed.cable(name), "down")


def mend(bed: Bed, name: str) -> None:
    """Mend a host's network."""
    bed.first_process(name)
    network.switch(bed.cable(name), "up")


def kill(bed: Bed, name: str) -> None:
    """End a host at once, as a preempted machine ends: its connections close; those of a cut host do not."""
    bed.first_process(name)
    host.kill(bed.own(name))
    network.remove([bed.cable(name)])


def revive(bed: Bed, name: str) -> None:
    """Start a host that was killed: its home is as it was, its /tmp empty, and Ray does not run.

    Raises:
        InputError: if it is up.
    """
    bed.check(name)
    if host.first_process(bed.own(name)) is not None:
        raise InputError("host", name, "it is up", "`kill` ends it")
    _start(bed, name)


def condition(bed: Bed, name: str) -> str:
    """How a host is: `up`, `cut` or `dead`."""
    if host.first_process(bed.own(name)) is None:
        return "dead"
    return "cut" if network.is_cut(bed.cable(name)) else "up"


def command_in(bed: Bed, name: str, command: str) -> list[str]:
    """The command line that runs a shell's command in a host."""
    return host.entering(bed.first_process(name), command)


def _prepare(bed: Bed, name: str) -> None:
    names = {each: bed.address(each) for each in bed.hosts}
    host.prepare(bed.own(name), name, names, Path(sys.prefix))
    for key, target in (("host_key", "host_key"), ("key.pub", "authorized_keys")):
        shutil.copy(bed.path(key), bed.own(name) / "etc" / target)


def _start(bed: Bed, name: str) -> None:
    host.start(bed.own(name), name, [sys.prefix, sys.base_prefix])
    first = bed.first_process(name)
    network.connect(bed.bridge, bed.cable(name), first, bed.network, bed.address(name))


def _write_keys(bed: Bed) -> None:
    for name in ("key", "host_key"):
        system.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(bed.path(name)))
    # As `ray get-auth-token --generate` makes it.
    bed.path("auth_token").write_text(secrets.token_hex(32))
    bed.path("auth_token").chmod(0o600)


@contextmanager
def _lock() -> Iterator[None]:
    with Path("/run/ristune-testbed.lock").open("w") as file:
        flock(file, LOCK_EX)
        yield
