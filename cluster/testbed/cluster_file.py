"""The cluster file of a test bed: the one for hosts that one has, with these hosts filled in."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "cluster" / "on-premises.yaml"
_CREDENTIALS = "~/.aws/credentials"
# The hosts share one machine, and little passes through the object store.
_SIZE = "--object-store-memory=100000000"


def fill(
    name: str, addresses: list[str], key: Path, token: Path, bucket: str, credentials: Path | None
) -> dict[str, Any]:
    """The cluster file for these hosts.

    What differs from the template: name, addresses, user, SSH key, bucket and its keys, and token; nothing is
    installed, as the hosts have the Python that started the bed at ~/env; no GPU is asked for; a worker has
    one core.

    Args:
        name: of the cluster.
        addresses: of the head, then of the workers.
        key: the SSH key that all hosts take.
        token: Ray's token.
        bucket: a URI, or a folder that all hosts see.
        credentials: a file as AWS's tools have it, with the bucket's keys; None if it needs none.

    Returns:
        The file's content.
    """
    cluster: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())
    cluster["cluster_name"] = name
    cluster["metadata"]["bucket"] = bucket
    cluster["provider"] |= {"head_ip": addresses[0], "worker_ips": addresses[1:]}
    cluster["auth"] |= {"ssh_user": "root", "ssh_private_key": str(key)}
    # Paths of the repository are relative in the template, for whoever runs `ray up` in its folder.
    mounts = {there: str(ROOT / here) for there, here in cluster["file_mounts"].items()}
    mounts["~/.ray/auth_token"] = str(token)
    del mounts[_CREDENTIALS]
    if credentials is not None:
        mounts[_CREDENTIALS] = str(credentials.resolve())
    cluster["file_mounts"] = mounts
    cluster["setup_commands"] = []
    cluster["worker_setup_commands"] = [
        command.replace(" --gpu", "") for command in cluster["worker_setup_commands"]
    ]
    for role, size in (("head", _SIZE), ("worker", f"--num-cpus=1 {_SIZE}")):
        key_of = f"{role}_start_ray_commands"
        cluster[key_of] = [f"{each} {size}" if "ray start" in each else each for each in cluster[key_of]]
    return cluster
