"""What a test bed needs of the machine: root, programs of Debian's, and who runs what."""

import os
import shutil
import subprocess
from pathlib import Path

from ristune.errors import InputError

# Program, and the package of Debian's that brings it.
PROGRAMS = {
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "rsync": "rsync",
    "mount": "mount",
    "setsid": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
# A user's PATH may leave out where administrators' programs lie.
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def require_root() -> None:
    """Refuse anybody but root.

    Raises:
        InputError: saying what root is needed for.
    """
    if os.geteuid() != 0:
        raise InputError(
            "user",
            os.geteuid(),
            "a test bed needs root (0): hosts are made of network, process and mount namespaces",
            "run it as root or with sudo, on a machine where you may break things",
        )


def require_programs() -> None:
    """Refuse a machine without the programs.

    Raises:
        InputError: naming what is missing, and the packages that bring it.
    """
    missing = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
    if missing:
        packages = " ".join(sorted({PROGRAMS[name] for name in missing}))
        raise InputError(
            "programs",
            ", ".join(missing),
            "a test bed needs them and they are not found",
            f"make tools, or apt-get install {packages}",
        )


def run(*command: str) -> str:
    """Run a program of the system and give back what it printed.

    Raises:
        RuntimeError: with what it said, if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": SEARCHED})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def arguments_of(pid: int) -> list[str]:
    """The command line of a process; empty if there is none."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0")


def parent_of(pid: int) -> int | None:
    """The parent of a process; None if the process is gone, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name, in brackets, may hold anything.
    state, parent = text.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)


def processes() -> list[int]:
    """All processes of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
