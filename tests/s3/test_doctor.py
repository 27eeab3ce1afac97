"""The nodes of a running cluster try a bucket."""

import pytest

from tests.cluster.nodes import two_nodes
from tests.cluster.plant import AWS, examine

pytestmark = [pytest.mark.s3, pytest.mark.ray]


def test_every_node_tries_the_bucket_and_leaves_nothing_there(server, bucket, capsys):
    from ristune.storage.access import open_storage

    sound = server.uri(bucket, "runs", deadline=20)
    missing = server.uri("no-such-bucket", "runs", deadline=5)
    with two_nodes() as nodes:
        live = ("--live", "--address", nodes.address, "--only", "storage")
        status, rows = examine(capsys, AWS, *live, f"output={sound}")
        assert status == 0 and [row.verdict for row in rows] == ["pass"]
        assert open_storage(sound).list("") == ()
        status, rows = examine(capsys, AWS, *live, f"output={missing}")
    assert status == 1 and [row.verdict for row in rows] == ["FAIL", "FAIL"]
    assert all("no-such-bucket" in row.text for row in rows)
