"""Shards that arrive in pieces of any size, over a network that fails."""

import pytest
import torch

from ristune.data import scatter
from ristune.data.cache import NodeCache
from ristune.data.dataset import open_dataset
from ristune.data.places import Place
from ristune.data.shards import encode
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import Wide
from tests.storage.faults import Fault, fault_server


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scatter") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ristune.data.writing.written.encode", lambda *a: encode(*a, row_group_bytes=9000))
        write_dataset(str(folder), Simulated(Wide(), {"train": 41}, 5, 17))
    return folder


def cached(uri, folder):
    cache = NodeCache((Place(folder, 10**9, "data.cache_disk_gb"),), lambda line: None)
    return open_dataset(str(uri), cache).split("train")


@pytest.mark.parametrize("size", [97, 1000, 1024, 4096, 8999, 30000, 2**20])
def test_where_ranges_end_makes_no_difference(root, tmp_path, monkeypatch, size):
    monkeypatch.setattr(scatter, "RANGE_BYTES", size)
    expected = open_dataset(str(root))._read("train", Wide.columns, 41)
    found = cached(root, tmp_path / "c")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len(open_dataset(str(root)).resident("train", 41).rows) == 41


@pytest.fixture
def server(root, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with fault_server() as running:
        for path in root.rglob("*.*"):
            running.objects[f"bucket/d/{path.relative_to(root)}"] = path.read_bytes()
        yield running


@pytest.mark.parametrize(
    "fault",
    [
        Fault("flip", key="bucket/d/train/00001.parquet"),
        Fault("short", key="bucket/d/train/00000.parquet"),
        Fault("cut", key="bucket/d/train/00002.parquet", times=2),
        Fault("status", key="bucket/d/train/00000.parquet", times=4),
        Fault("reset", key="bucket/d/train/00001.parquet", times=3),
    ],
    ids=lambda fault: fault.kind,
)
def test_what_fails_on_the_way_is_asked_for_again(root, server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(scatter, "RANGE_BYTES", 20000)
    server.faults = [fault]
    found = cached(f"s3://bucket/d?endpoint={server.endpoint}&deadline=20", tmp_path / "c")
    assert fault.times == 0
    expected = open_dataset(str(root)).split("train")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_what_is_stored_altered_is_named_and_no_row_of_it_is_served(root, server, tmp_path, shard):
    key = f"bucket/d/train/0000{shard}.parquet"
    whole = server.objects[key]
    server.objects[key] = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    uri = f"s3://bucket/d?endpoint={server.endpoint}&deadline=5"
    with pytest.raises(InputError, match=f"train/0000{shard}.parquet .*they are stored so"):
        cached(uri, tmp_path / "c")
    server.objects[key] = whole
    expected = open_dataset(str(root)).split("train")
    found = cached(uri, tmp_path / "c")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_shard_of_another_length_is_named(root, server, tmp_path):
    server.objects["bucket/d/train/00001.parquet"] += b"x"
    with pytest.raises(InputError, match="train/00001.parquet .*a file of .* bytes is required"):
        cached(f"s3://bucket/d?endpoint={server.endpoint}&deadline=5", tmp_path / "c")
