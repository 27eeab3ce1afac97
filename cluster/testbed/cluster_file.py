"""The cluster file of a test bed: the one for hosts that one has, with these hosts filled in."""

import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "cluster" / "on-premises.yaml"
TEMPLATE_BUCKET = "s3://my-bucket/ristune"
CREDENTIALS = "~/.aws/credentials"
# The hosts share the cores of one machine, and little passes through the object store.
_SIZE = "--object-store-memory=100000000"


def fill(
    name: str, addresses: list[str], key: Path, token: Path, bucket: str, credentials: Path | None
) -> dict[str, Any]:
    """The cluster file for these hosts.

    What differs from the template: addresses, user and key; the token and the bucket's keys come from the bed;
    nothing is installed, the hosts have the Python that runs the bed at ~/env; no GPU is asked for; a worker
    has one core.

    Args:
        name: of the cluster.
        addresses: of the head, then of the workers.
        key: the SSH key that all hosts take.
        token: Ray's token.
        bucket: what the checks read and write: a URI, or a folder that all hosts see.
        credentials: a file of AWS's format with the bucket's keys; None if it needs none.

    Returns:
        The file's content.
    """
    cluster: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())
    cluster["cluster_name"] = name
    cluster["provider"] |= {"head_ip": addresses[0], "worker_ips": addresses[1:]}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    mounts = cluster["file_mounts"]
    mounts |= {"~/.ray/auth_token": str(token), "~/ristune": str(ROOT)}
    if credentials is None:
        del mounts[CREDENTIALS]
    else:
        mounts[CREDENTIALS] = str(credentials)
    cluster["setup_commands"] = []
    for role in ("head", "worker"):
        checks = cluster[f"{role}_setup_commands"]
        checks[:] = [
            command.replace(TEMPLATE_BUCKET, shlex.quote(bucket)).replace(" --gpu", "") for command in checks
        ]
    _extend_start(cluster["head_start_ray_commands"], _SIZE)
    _extend_start(cluster["worker_start_ray_commands"], f"--num-cpus=1 {_SIZE}")
    return cluster


def _extend_start(commands: list[str], options: str) -> None:
    commands[:] = [f"{command} {options}" if "ray start" in command else command for command in commands]
