from collections.abc import Iterator

import pytest

from tests.cluster.running import Cluster, bring_up


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests that need one; whoever breaks a host mends it, and waits until it is in."""
    with bring_up(tmp_path_factory.mktemp("cluster") / "bed") as running:
        yield running
