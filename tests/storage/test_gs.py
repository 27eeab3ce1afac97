"""Google Cloud Storage against an emulator, which checks no credentials."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ristune.errors import InputError
from ristune.storage.access import open_storage
from ristune.storage.fetch import fetch
from ristune.storage.objects import RANGE_BYTES
from tests.storage.ranges import ranged

# A process of its own, since pyarrow keeps the interpreter's lock while it closes a stream on this store.
# As it comes the emulator answers one connection at a time; ranges are read on several.
EMULATOR = """
import http.server
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def __init__(self, *args):
        super().__init__(*args)
        print(self.server_port, flush=True)
http.server.HTTPServer = Server
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket").run()
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with (tmp_path_factory.mktemp("gs") / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", EMULATOR],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    with process:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.terminate()


@pytest.fixture
def storage(endpoint):
    return open_storage(f"gs://bucket/d?endpoint={endpoint}&anonymous=true&deadline=5")


def test_what_is_written_is_read(storage):
    for data in (b"", b"abc", b"0123456789"):
        storage.write_atomic("a/b", data)
        assert storage.read("a/b") == data
    assert ranged(storage, "a/b", 3, 4) == b"3456"
    assert storage.size("a/b") == 10


def test_a_file_is_fetched_by_ranges_and_checked(storage):
    data = np.random.default_rng(0).bytes(RANGE_BYTES + 1000)
    storage.write_atomic("shard", data)
    with ThreadPoolExecutor(3) as pool:
        assert fetch(storage, "shard", len(data), hashlib.sha256(data).hexdigest(), pool) == data
        with pytest.raises(InputError, match="the same other bytes came twice"):
            fetch(storage, "shard", len(data), "0" * 64, pool)
    storage.remove_tree("shard")


def test_a_tree_is_listed_found_and_removed(storage):
    for path in ("t/a/b/x", "t/a/y", "t/c"):
        storage.write_atomic(path, b"1")
    assert storage.list("t") == ("a", "c")
    assert storage.list("t/a") == ("b", "y")
    assert storage.list("nowhere") == ()
    assert storage.exists("t/a") and storage.exists("t/a/y") and not storage.exists("t/z")
    storage.remove_tree("t/a")
    storage.remove_tree("nothing")
    storage.ensure_writable()
    assert storage.list("t") == ("c",)
    storage.remove_tree("t/c")
    assert not storage.exists("t/c")


def test_what_is_missing_is_named(storage, endpoint):
    with pytest.raises(InputError, match="gs://bucket/d/x: got 'not found'; an object that can be read"):
        storage.read("x")
    other = open_storage(f"gs://other/d?endpoint={endpoint}&anonymous=true&deadline=5")
    for call in (lambda: other.read("x"), lambda: other.write_atomic("x", b"1")):
        with pytest.raises(InputError, match="gs://other: got 'not found'; the bucket must exist"):
            call()


def test_a_host_out_of_reach_is_named():
    storage = open_storage("gs://bucket/d?endpoint=http://127.0.0.1:9&anonymous=true&deadline=0.5")
    with pytest.raises(InputError, match="gs://bucket/d/x: got 'UNAVAILABLE.*http://127.0.0.1:9 must answer"):
        storage.read("x")
