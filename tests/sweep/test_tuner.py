from pathlib import Path

import pytest

from ristune.config import compose
from ristune.sweep.tuner import for_workers


def test_workers_find_the_same_places_and_share_a_gpu() -> None:
    config = compose(["data.cache=kept", "sweep.gpu_per_trial=0.25", "data.gpu_share=0.6"])
    data = for_workers(config).data
    assert (data.uri, data.cache) == (str(Path("data/nearfield").resolve()), str(Path("kept").resolve()))
    assert data.gpu_share == pytest.approx(0.15)
    remote = for_workers(compose(["data.uri=s3://bucket/d?endpoint=http://h:1&region=x"]))
    assert remote.data.uri == "s3://bucket/d?endpoint=http://h:1&region=x"
    assert remote.data.cache is None
