"""A dataset on a real S3 server, read by the trials of a node."""

import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ristune.data.cache import NodeCache
from ristune.data.columns import Column
from ristune.data.dataset import open_dataset
from ristune.data.places import Place
from ristune.data.stream import Stream
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.storage.objects import RANGE_BYTES

pytestmark = pytest.mark.s3

SPAWN = multiprocessing.get_context("spawn")
TRIALS = 8


class Wide:
    """Rows of 64 kB, so that few of them make shards of several ranges."""

    name, version = "wide", "1"
    columns = (Column("wave", "<f4", (2**14,), "1", "input"), Column("sample_id", "<i8", (), "1", "id"))

    def parameters(self):
        return {}

    def tables(self):
        column = Column("phase", "<f4", (6,), "rad", "input")
        return {"codebook": ((column,), {"phase": np.ones((3, 6), "<f4")})}

    def draw(self, rows, rng):
        return {
            "wave": rng.random((rows, 2**14), np.float32),
            "sample_id": rng.integers(0, 2**62, rows),
        }


@pytest.fixture(scope="module")
def uri(server):
    """Two shards of two ranges and one of one range for training, one for validation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", server.keys.access)
        patch.setenv("AWS_SECRET_ACCESS_KEY", server.keys.secret)
        server.make_bucket("wide")
        uri = server.uri("wide", "d", deadline=30)
        write_dataset(uri, Simulated(Wide(), {"train": 900, "val": 20}, 0, 400))
    return uri


def opened(uri, folder):
    return open_dataset(uri, NodeCache((Place(Path(folder), 10**10, "data.cache_disk_gb"),), print))


def epoch(dataset, mode):
    stream = Stream(
        dataset, "train", 64, 0, True, "cpu", mode=mode, window=2, prefetch=1, gpu_share=0, limit=850
    )
    return torch.cat([batch["wave"][:, :3] for batch in stream.epoch(1)])


def trial(uri, folder, barrier):
    barrier.wait()
    dataset = opened(uri, folder)
    assert len(dataset.table("codebook")["phase"]) == 3
    assert len(epoch(dataset, "cached")) == 850
    assert len(dataset.split("val")["wave"]) == 20


def test_trials_that_start_together_fetch_each_shard_once(server, uri, tmp_path):
    before = len(server.requests())
    barrier = SPAWN.Barrier(TRIALS)
    processes = [SPAWN.Process(target=trial, args=(uri, tmp_path, barrier)) for _ in range(TRIALS)]
    [process.start() for process in processes]
    [process.join(200) for process in processes]
    assert [process.exitcode for process in processes] == [0] * TRIALS
    asked = [request for request in server.requests(before) if request.key.endswith(".parquet")]
    assert {request.status for request in asked} <= {200, 206}
    manifest = open_dataset(uri).manifest
    files = [shard for split in manifest.splits.values() for shard in split.shards]
    files += manifest.tables.values()
    gets = Counter(request.key for request in asked if request.method == "GET")
    heads = Counter(request.key for request in asked if request.method == "HEAD")
    assert gets == {f"wide/d/{file.path}": -(-file.bytes // RANGE_BYTES) for file in files}
    assert max(gets.values()) == 2
    assert set(heads) == set(gets) and set(heads.values()) == {1}


def test_windows_are_read_from_the_server_and_give_the_same_epoch(server, uri, tmp_path):
    whole = epoch(opened(uri, tmp_path), "cached")
    before = len(server.requests())
    assert torch.equal(epoch(open_dataset(uri), "windowed"), whole)
    asked = [request for request in server.requests(before) if request.key.endswith(".parquet")]
    groups = sum(len(shard.row_groups) for shard in open_dataset(uri).manifest.splits["train"].shards)
    gets = [request for request in asked if request.method == "GET"]
    assert len(gets) in (groups, groups - 1), "one request a row group"
    assert sum(request.method == "HEAD" for request in asked) == 3


def test_a_wrong_key_is_refused_before_anything_is_kept(uri, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    with pytest.raises(InputError, match="credentials") as refused:
        opened(uri, tmp_path / "c")
    assert "x" * 40 not in str(refused.value)
    assert not (tmp_path / "c").exists()


def test_a_writer_that_was_stopped_goes_on_on_the_server(server, bucket):
    class Stopped(Wide):
        drawn = 0

        def draw(self, rows, rng):
            if self.drawn == 3:
                raise KeyboardInterrupt
            self.drawn += 1
            return super().draw(rows, rng)

    uri = server.uri(bucket, "d")
    with pytest.raises(KeyboardInterrupt):
        write_dataset(uri, Simulated(Stopped(), {"train": 400}, 0, 100))
    with pytest.raises(InputError, match="the dataset was never finished"):
        open_dataset(uri)
    again = Stopped()
    again.drawn = -10
    manifest = write_dataset(uri, Simulated(again, {"train": 400}, 0, 100))
    assert again.drawn == -9, "three of four shards were there"
    assert open_dataset(uri).manifest == manifest
    with pytest.raises(InputError, match="there is a dataset already|datasets never change"):
        write_dataset(uri, Simulated(Wide(), {"train": 400}, 0, 100))
