"""A server of objects, and a storage that reads them."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ristune.storage.access import open_storage
from ristune.storage.objects import RANGE_BYTES
from tests.storage.faults import fault_server

DATA = np.random.default_rng(0).bytes(2 * RANGE_BYTES + 1000)
SHA256 = hashlib.sha256(DATA).hexdigest()
SECRET = "wJalrXUtnFEMIexample"


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDFIRST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with fault_server() as running:
        running.objects["bucket/d/shard"] = DATA
        running.objects["bucket/d/small"] = b"0123456789"
        yield running


def storage_of(server, deadline=2.0, **settings):
    said = "".join(f"&{key}={value}" for key, value in settings.items())
    return open_storage(f"s3://bucket/d?endpoint={server.endpoint}&deadline={deadline}{said}", "data.uri")


@pytest.fixture
def storage(server):
    return storage_of(server)
