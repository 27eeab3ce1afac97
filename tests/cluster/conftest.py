from collections.abc import Iterator

import pytest

from tests.cluster.metadata_server import MetadataServer, serving


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    with serving() as server:
        yield server
