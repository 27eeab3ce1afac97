"""What a node is asked, and how it finds out."""

import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

import ristune
from ristune.cluster.facts import Software, Space, Store
from ristune.data.config import DataConfig
from ristune.data.entries import room
from ristune.data.places import places
from ristune.errors import InputError
from ristune.storage.access import Storage

# There as soon as NVIDIA's driver is loaded.
DRIVER = Path("/proc/driver/nvidia/version")
# Written and read to find a rate: a few requests long, a moment short.
BYTES = 8 * 2**20


class Probe:
    """A process on a node that answers; Ray makes an actor of it."""

    def now(self) -> float:
        """The node's clock, seconds since 1970."""
        return time.time()

    def software(self) -> Software:
        """What the node runs."""
        # Ray hides the GPUs from whoever has not asked for one, and none is taken from trials here.
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        import torch

        return Software(versions(), driver_version(), torch.cuda.device_count())

    def store(self, storage: Storage, folder: str, own: str, others: str | None) -> Store:
        """Write and read below the sweep's output.

        Args:
            storage: the output.
            folder: in it, for all nodes.
            own: the name of this node's file there.
            others: the name of a file there that another node has written; None if that failed.
        """
        data = os.urandom(BYTES)
        try:
            started = time.monotonic()
            storage.write_atomic(f"{folder}/{own}", data)
            written = time.monotonic()
            same = storage.read(f"{folder}/{own}") == data
            read = time.monotonic()
            shared = others is None or storage.exists(f"{folder}/{others}")
            storage.remove_tree(f"{folder}/{own}")
        except InputError as refused:
            return Store(None, None, False, refused.rule)
        if not same:
            return Store(None, None, False, "what was read is not what was written")
        return Store(BYTES / (written - started), BYTES / (read - written), shared)

    def space(self, config: DataConfig) -> Space:
        """Room for decoded datasets.

        Args:
            config: where they may be.
        """
        try:
            sizes = {str(place.path): room(place, "") for place in places(config, lambda line: None)}
        except InputError as refused:
            return Space(str(refused.value), 0, refused.rule)
        best = max(sizes, key=lambda path: sizes[path])
        return Space(best, sizes[best])


def versions() -> tuple[tuple[str, str], ...]:
    """What must be the same on all nodes."""
    return (
        ("Ray", importlib.metadata.version("ray")),
        ("Python", platform.python_version()),
        ("torch", importlib.metadata.version("torch")),
        ("ristune", ristune.__version__),
    )


def driver_version(file: Path = DRIVER) -> str:
    """The version of NVIDIA's driver; empty where there is none.

    Args:
        file: where the driver says it.
    """
    found = re.search(r"Module\s+(?:for \S+\s+)?(\d+\.[\d.]+)", file.read_text()) if file.is_file() else None
    return found[1] if found else ""
