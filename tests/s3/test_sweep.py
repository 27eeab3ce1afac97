"""A sweep on a dataset in a bucket, beside the same sweep on the same dataset on disk."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ristune.storage.access import open_storage
from ristune.training.record import CLOCKS
from tests.integration.sweeps import Sweep, end, start

pytestmark = [pytest.mark.s3, pytest.mark.ray]

# What differs between two runs of the same computation, beside the records' own clocks.
OTHERS = ("second", "time", "worker", "pid", "node", "host")


def swept(home: Path, name: str, uri: str) -> Sweep:
    fixed = ("sweep.sampler=random", "sweep.seed=1", "sweep.concurrency=1", "tracking.mode=disabled")
    # The same dataset has the same identity anywhere: a cache of its own makes each sweep fetch it.
    data = (f"data.uri={uri}", f"data.cache={home / name}-cache")
    process = start(home, name, "--trials", "5", "training.epochs=5", *fixed, *data)
    sweep = end(process, home, name)
    assert sweep.status == 0, sweep.stderr
    return sweep


def table(sweep: Sweep) -> dict[str, list[object]]:
    found = pq.read_table(sweep.folder / "records.parquet")
    same = [name for name in found.column_names if name not in CLOCKS]
    kept = [name for name in same if not any(word in name for word in OTHERS)]
    return found.select(kept).to_pydict()


def test_a_sweep_on_a_bucket_has_the_records_of_one_on_disk(server, bucket, tmp_path):
    local = swept(tmp_path, "local", str(tmp_path / "data"))
    uri = server.uri(bucket, "toy", deadline=30)
    remote = open_storage(uri)
    files = sorted(path for path in (tmp_path / "data").rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path.name == "manifest.json"):
        remote.write_atomic(str(path.relative_to(tmp_path / "data")), path.read_bytes())
    before = len(server.requests())
    far = swept(tmp_path, "far", uri)
    asked = [request.key for request in server.requests(before) if request.method == "GET"]
    records = table(local)
    assert len(records["objective"]) >= 10
    assert table(far) == records
    assert sum(key.endswith("train/00000.parquet") for key in asked) == 1, "once for all trials"
    secret = server.keys.secret
    written = [path for path in far.folder.rglob("*") if path.is_file()]
    assert not any(secret.encode() in path.read_bytes() for path in written)
