"""A home for commands that start Ray, left as they found it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sweeps import kill_what_runs


@pytest.fixture
def home() -> Iterator[Path]:
    # Ray's sockets lie below it, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        yield Path(folder)
        # Only a test that failed leaves any; it must not take the machine from those after it.
        kill_what_runs()
        left = [
            path.name for pattern in ("ristune-*", "wandb-*", "tmp*") for path in Path(folder).glob(pattern)
        ]
        assert left == [], "temporary files were left behind"
