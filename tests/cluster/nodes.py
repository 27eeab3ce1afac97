"""Two nodes of a real Ray on this machine."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.cluster_utils import Cluster


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A head without cores for trials, as on a cloud, and a worker."""
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        common = {"temp_dir": folder, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **common})
        try:
            cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


@contextmanager
def stopped(node: Any) -> Iterator[None]:
    """A node that is there, and does nothing."""
    raylet = node.all_processes["raylet"][0].process.pid
    os.kill(raylet, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(raylet, signal.SIGCONT)
