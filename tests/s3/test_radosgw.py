import hashlib
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest

from ristune.errors import InputError
from ristune.storage.access import open_storage
from ristune.storage.fetch import fetch
from ristune.storage.objects import RANGE_BYTES
from tests.s3 import radosgw
from tests.storage.ranges import ranged

pytestmark = pytest.mark.s3


@pytest.fixture
def storage(server, bucket):
    return open_storage(server.uri(bucket, "some/prefix", deadline=20))


def random_bytes(size):
    return np.random.default_rng(size).bytes(size)


@pytest.mark.parametrize("size", [0, 1, 100_000, 25 * 2**20])
def test_what_is_written_is_read(storage, size):
    data = random_bytes(size)
    storage.write_atomic("a/b.bin", data)
    assert storage.read("a/b.bin") == data
    assert storage.size("a/b.bin") == size


def test_ranges_are_exactly_those_ranges(storage):
    data = random_bytes(100_000)
    storage.write_atomic("x", data)
    for offset, length in [(0, 0), (0, 100_000), (17, 3), (99_999, 1)]:
        assert ranged(storage, "x", offset, length) == data[offset : offset + length]
    with pytest.raises(InputError, match="some/prefix/x: got 2; 5 bytes from byte 99998 on were asked for"):
        ranged(storage, "x", 99_998, 5)


def test_a_tree_is_listed_found_and_removed(storage):
    for path in ["a/b/x", "a/y", "c", "d with space/ü"]:
        storage.write_atomic(path, b"1")
    assert storage.list("") == ("a", "c", "d with space")
    assert storage.list("a") == ("b", "y")
    assert storage.list("nowhere") == storage.list("c") == ()
    assert storage.exists("a") and storage.exists("a/y") and storage.exists("")
    assert not storage.exists("a/z")
    storage.remove_tree("a")
    storage.remove_tree("nothing")
    assert storage.list("") == ("c", "d with space")
    storage.remove_tree("c")
    assert storage.list("") == ("d with space",)
    assert storage.read("d with space/ü") == b"1"


def test_writing_replaces_the_whole_object(storage):
    storage.write_atomic("x", b"a longer text")
    storage.write_atomic("x", b"new")
    assert storage.read("x") == b"new"


def test_a_writable_place_is_left_empty(storage):
    storage.ensure_writable()
    assert storage.list("") == ()


def test_a_fetch_sends_one_head_and_one_get_a_range(server, storage):
    data = random_bytes(3 * RANGE_BYTES + 12_345)
    storage.write_atomic("shard", data)
    before = len(server.requests())
    with ThreadPoolExecutor(4) as pool:
        assert fetch(storage, "shard", len(data), hashlib.sha256(data).hexdigest(), pool) == data
    asked = server.requests(before)
    assert sorted(r.method for r in asked) == ["GET"] * 4 + ["HEAD"]
    assert {r.status for r in asked if r.method == "GET"} == {206}
    assert sum(r.bytes for r in asked if r.method == "GET") == len(data)


def test_a_storage_reaches_the_same_place_from_another_process(storage):
    storage.write_atomic("x", b"1")
    assert pickle.loads(pickle.dumps(storage)).read("x") == b"1"
    assert open_storage(storage.uri).read("x") == b"1"


def test_a_missing_bucket_is_named(server):
    storage = open_storage(server.uri("no-such-bucket", "d"))
    for call in (lambda: storage.read("x"), lambda: storage.exists("x"), storage.ensure_writable):
        with pytest.raises(InputError, match="s3://no-such-bucket: got .*; the bucket must exist"):
            call()


@pytest.mark.parametrize(
    ("variable", "code"),
    [("AWS_ACCESS_KEY_ID", "INVALID_ACCESS_KEY_ID"), ("AWS_SECRET_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH")],
)
def test_a_wrong_key_is_refused_and_not_shown(storage, monkeypatch, variable, code):
    storage.write_atomic("x", b"1")
    wrong = "WRONG" + os.environ[variable][5:]
    monkeypatch.setenv(variable, wrong)
    for call in (
        lambda other: other.read("x"),
        lambda other: other.write_atomic("y", b"1"),
        lambda other: other.list(""),
    ):
        with pytest.raises(InputError, match=rf"s3://.*{code}.* refuses this account.*environment") as caught:
            call(open_storage(storage.uri))
        assert wrong not in str(caught.value)


def test_another_account_is_refused(server, storage, monkeypatch):
    storage.write_atomic("x", b"1")
    stranger = server.add_key("stranger")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stranger.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stranger.secret)
    with pytest.raises(InputError, match="ACCESS_DENIED.* refuses this account"):
        open_storage(storage.uri).read("x")


def test_anonymous_reading_takes_a_public_bucket(server, bucket, storage):
    storage.write_atomic("x", b"1")
    anonymous = open_storage(server.uri(bucket, "some/prefix", anonymous="true", deadline=20))
    with pytest.raises(InputError, match="refuses requests that are not signed; drop anonymous=true"):
        anonymous.read("x")
    server.make_public(bucket)
    assert anonymous.read("x") == b"1"
    with pytest.raises(InputError, match="refuses requests that are not signed"):
        anonymous.write_atomic("y", b"1")


def test_keys_are_rotated_in_the_middle_of_a_run(server, bucket, tmp_path, monkeypatch):
    first = server.add_key()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    profile = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))

    def use(keys):
        profile.write_text(
            f"[default]\naws_access_key_id = {keys.access}\naws_secret_access_key = {keys.secret}\n"
        )

    use(first)
    storage = open_storage(server.uri(bucket, deadline=20))
    data = random_bytes(100_000)
    storage.write_atomic("x", data)
    with storage.open("x") as reader:
        buffer = bytearray(len(data))
        reader.read_into(0, memoryview(buffer))
        second = server.add_key()
        server.remove_key(first)
        with pytest.raises(
            InputError, match=r"refuses this account, also after .*~/.aws \(profile default\)"
        ):
            reader.read_into(0, memoryview(buffer))
        use(second)
        buffer[:] = bytes(len(data))
        reader.read_into(0, memoryview(buffer))
        assert bytes(buffer) == data
    storage.write_atomic("y", b"1")
    assert storage.read("y") == b"1"


def test_the_endpoint_may_come_from_the_environment(server, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    storage = open_storage(f"s3://{bucket}/d?deadline=20")
    storage.write_atomic("x", b"1")
    assert open_storage(server.uri(bucket, "d")).read("x") == b"1"


def test_missing_binaries_are_named_with_their_packages(monkeypatch):
    monkeypatch.setattr(radosgw, "BINARIES", ("no-such-program",))
    with pytest.raises(
        RuntimeError, match="no-such-program not found: run `make tools`, or apt-get install ceph"
    ):
        radosgw.Radosgw()


def test_the_server_listens_on_loopback_alone(server):
    assert urlsplit(server.endpoint).hostname == "127.0.0.1"
