"""One host of a test bed: a process tree with network, processes, mounts and name of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cluster.testbed import system

HOME = "/home/ristune"
_SCRIPT = Path(__file__).parent / "host.sh"
_SHARED_MEMORY = "256m"
_WAIT_SECONDS = 20.0
_LOOK_SECONDS = 0.05
# These folders are the host's own; what lies in them on the machine is not seen there, but what is kept.
_OWN = ("/home/", "/tmp/")


def prepare(own: Path, name: str, names: dict[str, str], environment: Path) -> None:
    """Write what a host is made of.

    Args:
        own: its folder.
        name: its name.
        names: address by name, of all hosts.
        environment: the Python environment that its ~/env leads to.
    """
    etc, home = own / "etc", own / HOME.lstrip("/")
    etc.mkdir(parents=True)
    home.mkdir(parents=True)
    (own / "home" / "shared").mkdir()
    _make_tmp(own)
    known = "".join(f"{address} {each}\n" for each, address in names.items())
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
    users = Path("/etc/passwd").read_text().splitlines(keepends=True)
    others = "".join(line for line in users if not line.startswith("root:"))
    (etc / "passwd").write_text(f"root:x:0:0:root:{HOME}:/bin/bash\n{others}")
    (etc / "sshd_config").write_text(
        "HostKey /run/host_key\nAuthorizedKeysFile /run/authorized_keys\nPidFile /run/sshd.pid\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "UseDNS no\nMaxStartups 100\n"
    )
    (home / "env").symlink_to(environment)


def start(own: Path, name: str, kept: Sequence[str]) -> None:
    """Start a host; it has no network yet.

    Args:
        own: its folder.
        name: its name.
        kept: folders that must be visible in it, wherever they lie.
    """
    _make_tmp(own)
    spaces = ["--net", "--pid", "--mount", "--uts", "--ipc", "--propagation", "private"]
    hidden = [path for path in kept if path.startswith(_OWN)]
    line = ["unshare", *spaces, "--fork", "--kill-child", "sh", str(_SCRIPT), str(own), name, _SHARED_MEMORY]
    with (own / "host.log").open("ab") as log:
        # In a session of its own, and nobody's child: it outlives who starts it, and Ctrl-C is not for it.
        subprocess.run(
            ["setsid", "--fork", *line, *hidden],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": system.SEARCHED, "LANG": "C.UTF-8"},
        )
    begun = time.monotonic()
    while (first := first_process(own)) is None or not _serves(first):
        waited = time.monotonic() - begun
        # Later than that it is not on its way, but has ended.
        if waited > (_WAIT_SECONDS if _outer(own) else 2.0):
            raise RuntimeError(f"host {name} did not start:\n{(own / 'host.log').read_text()[-2000:]}")
        # It is nobody's child, and says to nobody that its sshd listens.
        time.sleep(_LOOK_SECONDS)


def first_process(own: Path) -> int | None:
    """The host's process 1, by its number on the machine; None if the host is not up."""
    outer = _outer(own)
    found = [pid for pid in system.processes() if system.parent_of(pid) in outer] if outer else []
    return found[0] if found else None


def kill(own: Path) -> None:
    """End every process of a host at once, and wait until they are gone."""
    first = first_process(own)
    # Whoever started process 1 collects what is left of it, and ends.
    for pid in _outer(own) if first is None else [first]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    end = time.monotonic() + _WAIT_SECONDS
    # The kernel ends process 1 of a namespace only after all others in it.
    while _outer(own) or (first and system.parent_of(first) is not None):
        if time.monotonic() > end:
            raise RuntimeError(f"the processes of {own.name} do not end")
        # They are not our children: nothing can be waited for.
        time.sleep(_LOOK_SECONDS)


def entering(first: int, command: str) -> list[str]:
    """The command line that runs a command in a host, by its own shell, whether or not its network works."""
    inside = ["nsenter", f"--target={first}", "--net", "--pid", "--mount", "--uts", "--ipc"]
    variables = ["env", "--ignore-environment", f"HOME={HOME}", "USER=root", "LANG=C.UTF-8", "TERM=dumb"]
    path = f"PATH={HOME}/env/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    return [*inside, *variables, path, "RAY_AUTH_MODE=token", "bash", "-c", f"cd\n{command}"]


def _make_tmp(own: Path) -> None:
    """An empty folder for /tmp: a host that starts again finds nothing there, but its home."""
    system.run("rm", "-rf", str(own / "tmp"))
    (own / "tmp").mkdir()
    (own / "tmp").chmod(0o1777)


def _outer(own: Path) -> list[int]:
    """The processes, one at most, that started the host: they have its folder in their command line."""
    found = []
    for pid in system.processes():
        line = system.arguments_of(pid)
        if line and line[0] == "unshare" and str(_SCRIPT) in line and str(own) in line:
            found.append(pid)
    return found


def _serves(first: int) -> bool:
    return any("sshd" in program for program in system.arguments_of(first)[:1])
