"""Cluster files as users have them."""

from pathlib import Path
from typing import Any

import yaml


def cloud(**more: Any) -> dict[str, Any]:
    """A head that carries no trial, GPU workers on spot and on demand, six of them at most."""
    return {
        "cluster_name": "cloud",
        "max_workers": 6,
        "provider": {"type": "aws", "region": "us-east-1"},
        "auth": {"ssh_user": "ubuntu"},
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {"InstanceType": "m6i.large"}},
            "spot": {
                "resources": {"CPU": 8, "GPU": 2},
                "max_workers": 4,
                "node_config": {"InstanceType": "g5.2xlarge"},
            },
            "on_demand": {
                "resources": {"CPU": 8, "GPU": 2},
                "max_workers": 4,
                "node_config": {"InstanceType": "g5.2xlarge"},
            },
        },
        **more,
    }


def hosts(head: str = "ray start --head", worker: str = "ray start", **more: Any) -> dict[str, Any]:
    """Two hosts and a head that one has."""
    return {
        "cluster_name": "hosts",
        "provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]},
        "auth": {"ssh_user": "me", "ssh_private_key": "~/.ssh/id"},
        "head_start_ray_commands": ["ray stop", head],
        "worker_start_ray_commands": ["ray stop", worker],
        **more,
    }


def write(folder: Path, content: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
