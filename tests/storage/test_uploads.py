"""Uploads that fail are done again, or leave what was there."""

import pytest

from ristune.errors import InputError
from tests.storage.conftest import DATA, storage_of
from tests.storage.faults import Fault


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("data", [b"abc", DATA], ids=["small", "parts"])
@pytest.mark.parametrize("kind", ["status", "reset"])
def test_an_upload_that_fails_is_done_again(server, storage, method, data, kind):
    server.faults = [Fault(kind, times=2, method=method)]
    storage.write_atomic("new", data)
    assert server.objects["bucket/d/new"] == data


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("data", [b"abc", DATA], ids=["small", "parts"])
def test_an_upload_that_never_succeeds_leaves_nothing_and_the_old(server, method, data):
    storage = storage_of(server, deadline=0.5)
    server.faults = [Fault("status", 10**6, method)]
    for path in ("new", "small"):
        with pytest.raises(InputError, match=f"s3://bucket/d/{path}: .* must answer within 0.5 s"):
            storage.write_atomic(path, data)
    assert set(server.objects) == {"bucket/d/shard", "bucket/d/small"}
    assert server.objects["bucket/d/small"] == b"0123456789"


def test_an_upload_stored_by_half_is_found_and_done_again(server, storage):
    server.faults = [Fault("drop", times=1, method="PUT")]
    storage.write_atomic("new", b"abcdef")
    assert server.objects["bucket/d/new"] == b"abcdef"
    assert server.count("PUT") == 2
