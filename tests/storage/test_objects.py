import hashlib
import pickle
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from ristune.errors import InputError
from ristune.storage.access import open_storage
from ristune.storage.fetch import READS, fetch
from ristune.storage.objects import RANGE_BYTES
from tests.storage.conftest import DATA, SECRET, SHA256, storage_of
from tests.storage.faults import Fault
from tests.storage.ranges import ranged


def test_a_fetch_asks_once_for_the_size_and_once_for_each_range(server, storage, pool):
    assert fetch(storage, "shard", len(DATA), SHA256, pool) == DATA
    assert server.counts() == {"HEAD": 1, "GET": 3}
    assert {r.range for r in server.requests if r.method == "GET"} == {
        (0, RANGE_BYTES - 1),
        (RANGE_BYTES, 2 * RANGE_BYTES - 1),
        (2 * RANGE_BYTES, len(DATA) - 1),
    }


def test_threads_share_one_open_object(server, storage):
    with storage.open("shard") as reader, ThreadPoolExecutor(8) as threads:
        parts = [bytearray(1000) for _ in range(32)]
        for n, part in enumerate(parts):
            threads.submit(reader.read_into, 5000 * n, memoryview(part))
    assert all(part == DATA[5000 * n : 5000 * n + 1000] for n, part in enumerate(parts))
    assert server.counts() == {"HEAD": 1, "GET": 32}


@pytest.mark.parametrize(
    ("fault", "gets"),
    [
        (Fault("status", times=3), 6),
        (Fault("status", status=500, code="InternalError"), 4),
        (Fault("status", status=429, code="TooManyRequests"), 4),
        (Fault("cut", times=2), 5),
        # Memory that was used before may hold the bytes that were left out: then nothing is asked again.
        (Fault("short"), None),
        (Fault("flip"), 6),
        (Fault("reset", times=4), None),
        (Fault("status", method="HEAD", times=3), 3),
    ],
    ids=lambda value: f"{value.kind}{value.status}" if isinstance(value, Fault) else str(value),
)
def test_a_fault_that_passes_costs_requests_and_no_byte(server, storage, pool, fault, gets):
    server.faults = [fault]
    assert fetch(storage, "shard", len(DATA), SHA256, pool) == DATA
    assert fault.times == 0
    if gets is not None:
        assert server.count("GET") == gets


def test_silence_is_given_up_and_asked_again(server, pool):
    server.faults = [Fault("stall")]
    assert fetch(storage_of(server, deadline=20), "shard", len(DATA), SHA256, pool) == DATA
    assert server.count("GET") == 4


def test_a_store_that_keeps_failing_is_reported_at_the_deadline(server, pool):
    server.faults = [Fault("status", times=10**6)]
    rule = (
        r"s3://bucket/d/shard: got 'S\w+ during GetObject'; "
        rf"{server.endpoint} must answer within 1 s; \d+ attempts in [01]\.\d s failed; check the store"
    )
    with pytest.raises(InputError, match=rule):
        fetch(storage_of(server, deadline=1), "shard", len(DATA), SHA256, pool)
    assert server.count("GET") > 3


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid:80"])
def test_a_host_out_of_reach_is_named(endpoint):
    storage = open_storage(f"s3://bucket/d?endpoint={endpoint}&deadline=0.5&anonymous=true")
    rule = rf"s3://bucket/d/x: got '.*\(Could not .*\)'; {endpoint} must answer within 0.5 s"
    for call in (storage.read, storage.exists, storage.list, storage.remove_tree, storage.size):
        with pytest.raises(InputError, match=rule):
            call("x")


def test_a_small_range_tells_a_failed_store_from_a_missing_object(server, storage):
    with storage.open("small") as reader:
        buffer = bytearray(4)
        server.faults = [Fault("status", times=2)]
        reader.read_into(3, memoryview(buffer))
        assert buffer == b"3456"
        del server.objects["bucket/d/small"]
        with pytest.raises(
            InputError, match="s3://bucket/d/small: got 'not found'; an object that can be read"
        ):
            reader.read_into(3, memoryview(buffer))


def test_altered_content_is_known_by_the_second_read(server, storage, pool):
    server.objects["bucket/d/shard"] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(
        InputError, match=rf"shard of s3://bucket/d\?.*: got '\w{{64}}'.*{SHA256}; the same.*altered"
    ):
        fetch(storage, "shard", len(DATA), SHA256, pool)
    assert server.count("GET") == 6


def test_a_way_that_always_corrupts_is_given_up(storage, pool, monkeypatch):
    with storage.open("small") as reader:
        kind, reads = type(reader), []
    read_into = kind.read_into

    def corrupt(self, offset, buffer):
        read_into(self, offset, buffer)
        reads.append(1)
        buffer[0] = len(reads)

    monkeypatch.setattr(kind, "read_into", corrupt)
    with pytest.raises(
        InputError, match=f"{READS} reads gave as many other contents; the network or the store"
    ):
        fetch(storage, "small", 10, hashlib.sha256(b"0123456789").hexdigest(), pool)
    assert len(reads) == READS


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_another_length_is_refused_before_a_byte_is_read(server, storage, pool, size):
    with pytest.raises(InputError, match=f"got '{len(DATA)} bytes'; a file of {size} bytes is required"):
        fetch(storage, "shard", size, SHA256, pool)
    assert server.count("GET") == 0


@pytest.mark.parametrize("size", [0, 1, RANGE_BYTES])
def test_files_of_no_byte_and_of_one_range_are_fetched(server, storage, pool, size, tmp_path):
    local = open_storage(str(tmp_path))
    for place in (local, storage):
        place.write_atomic("x", DATA[:size])
        assert fetch(place, "x", size, hashlib.sha256(DATA[:size]).hexdigest(), pool) == DATA[:size]


def test_a_local_file_is_fetched_and_checked_alike(tmp_path, pool):
    local = open_storage(str(tmp_path))
    local.write_atomic("shard", DATA)
    assert fetch(local, "shard", len(DATA), SHA256, pool) == DATA
    with pytest.raises(InputError, match="the same other bytes came twice"):
        fetch(local, "shard", len(DATA), "0" * 64, pool)


@pytest.mark.parametrize("refusal", [(403, "InvalidAccessKeyId"), (400, "ExpiredToken")])
def test_expired_credentials_are_read_anew_once_for_all_threads(server, pool, monkeypatch, tmp_path, refusal):
    profile = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    def use(key):
        profile.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n")

    use("AKIDFIRST")
    server.accepted, server.refusal = {"AKIDFIRST"}, refusal
    storage = storage_of(server)
    assert fetch(storage, "shard", len(DATA), SHA256, pool) == DATA
    server.accepted = {"AKIDSECOND"}
    with pytest.raises(InputError, match=r"refuses this account, also after .*~/.aws \(profile default\)"):
        storage.read("small")
    with ThreadPoolExecutor(3) as threads:
        use("AKIDSECOND")
        reads = [threads.submit(storage.read, "small") for _ in range(6)]
        assert {read.result() for read in reads} == {b"0123456789"}


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.read("small"),
        lambda storage: ranged(storage, "small", 1, 2),
        lambda storage: storage.write_atomic("new", b"1"),
        lambda storage: storage.exists("small"),
        lambda storage: storage.list(""),
        lambda storage: storage.remove_tree("small"),
        lambda storage: storage.ensure_writable(),
    ],
)
def test_a_refused_account_is_told_so_without_its_secrets(server, monkeypatch, call):
    token = "FwoGZXIvYXdzSECRETTOKEN"
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    storage = storage_of(server)
    # A store that repeats what it was sent: the worst that a message could pass on.
    echo = f"key {SECRET} token {token} Authorization: AWS4-HMAC-SHA256 Signature=abc"
    server.faults = [Fault("status", 10**6, "", status=403, code="SignatureDoesNotMatch", message=echo)]
    with pytest.raises(
        InputError, match="SIGNATURE_DOES_NOT_MATCH.*check the credentials in the environment"
    ) as caught:
        call(storage)
    told = "".join(traceback.format_exception(caught.value)) + repr(storage) + storage.uri
    assert all(secret not in told for secret in (SECRET, token, "abc"))


def test_an_unsigned_request_is_refused_as_such(server):
    server.accepted = {"AKIDFIRST"}
    with pytest.raises(InputError, match="refuses requests that are not signed; drop anonymous=true"):
        storage_of(server, anonymous="true").read("small")
    assert {r.authorization for r in server.requests} == {""}


def test_another_region_is_told_from_a_fault(server, storage):
    server.faults = [Fault("status", 10**6, "HEAD", status=301, code="PermanentRedirect")]
    with pytest.raises(InputError, match=r"HTTP status 301.*own region; add \?region=REGION"):
        storage.read("small")


def test_what_is_written_is_read_and_counted(server, storage):
    for data in (b"", b"abc", memoryview(DATA)):
        storage.write_atomic("a/b", data)
        assert server.objects["bucket/d/a/b"] == bytes(data)
    assert storage.read("a/b") == DATA
    assert storage.list("") == ("a", "shard", "small")


def test_a_tree_is_found_listed_and_removed(storage):
    storage.write_atomic("a/b/x", b"1")
    assert storage.exists("a") and storage.exists("") and not storage.exists("b")
    storage.remove_tree("a")
    assert storage.list("") == ("shard", "small")
    storage.ensure_writable()
    assert storage.list("") == ("shard", "small")


def test_a_missing_bucket_is_named(server):
    storage = open_storage(f"s3://other/d?endpoint={server.endpoint}&deadline=1")
    for call in (
        lambda: storage.read("x"),
        lambda: storage.exists("x"),
        lambda: storage.write_atomic("x", b""),
    ):
        with pytest.raises(InputError, match="s3://other: got 'not found'; the bucket must exist"):
            call()


def test_an_endpoint_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    assert open_storage("s3://bucket/d?deadline=2").read("small") == b"0123456789"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:SECRET@host:1")
    with pytest.raises(InputError, match="AWS_ENDPOINT_URL_S3: got .*an endpoint is") as caught:
        open_storage("s3://bucket/d?deadline=2").read("small")
    assert "SECRET" not in str(caught.value)


def test_a_storage_crosses_processes_by_its_uri(server, storage):
    assert storage.read("small") == b"0123456789"
    again = pickle.loads(pickle.dumps(storage))
    assert again == storage == open_storage(storage.uri)
    assert again.read("small") == b"0123456789"


LIVE = """
import sys, threading, time
from ristune.storage.access import open_storage
storage = open_storage(sys.argv[1])
reader = storage.open("small")
"""


@pytest.mark.parametrize(
    "ending",
    [
        "kept = reader",
        "sys.exit(0)",
        # A thread in the middle of a stalled read: what pyarrow waits for at exit is bounded by its timeout.
        "threading.Thread(target=reader.read_into, args=(0, memoryview(bytearray(4))), daemon=True).start(); "
        "time.sleep(1)",
        "from multiprocessing import get_context as c; p = c('fork').Process(target=print); p.start(); "
        "p.join(); sys.exit(p.exitcode)",
    ],
    ids=["live", "exit", "stalled", "forked"],
)
def test_an_interpreter_with_a_live_connection_ends(server, storage, ending):
    if "Thread" in ending:
        server.faults = [Fault("stall", times=10**6)]
    done = subprocess.run([sys.executable, "-c", LIVE + ending, storage.uri], timeout=60)
    assert done.returncode == 0
