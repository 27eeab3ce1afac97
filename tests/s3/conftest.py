from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.s3.radosgw import Radosgw


@pytest.fixture(scope="session")
def server() -> Iterator[Radosgw]:
    """One server for all tests that need one."""
    with Radosgw() as running:
        yield running


@pytest.fixture
def bucket(server: Radosgw) -> str:
    """An empty bucket of the server's first account."""
    name = f"test-{uuid4().hex[:12]}"
    server.make_bucket(name)
    return name


@pytest.fixture(autouse=True)
def credentials(server: Radosgw, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first account's keys where a user has them: in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.keys.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.keys.secret)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
