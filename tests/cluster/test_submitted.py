"""Sweeps that a laptop submits to a cluster whose results lie in a bucket."""

import json
import subprocess
from pathlib import Path

import pytest

from ristune.storage.location import within
from ristune.sweep import results
from tests.integration.sweeps import CONFIGS, ROOT, launch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("laptop")
    (folder / "tests").symlink_to(ROOT / "tests")
    return folder


@pytest.fixture(scope="module")
def runs(cluster):
    return within(cluster.bucket, "submitted", "bucket")


def sweep(cluster, laptop: Path, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {**cluster.environment, "HOME": str(laptop), "PYTHONPATH": str(ROOT)}
    command = ["ristune.sweep", *words, "--cluster", str(cluster.cluster_file)]
    process = launch(command, variables, laptop)
    out, err = process.communicate(timeout=140)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_results_come_from_the_bucket(cluster, laptop, runs):
    config = ["task=toy", "space=toy", "--config-dir", str(CONFIGS), "training.device=cpu"]
    sizes = ["simulator.train=256", "simulator.val=64", "simulator.test=64", "training.epochs=3"]
    where = [f"output={runs}", "data.uri=/home/shared/submitted", "--shared", "tracking.mode=disabled"]
    done = sweep(cluster, laptop, "--name", "wide", "--trials", "4", *config, *sizes, *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 trials, 2 at once when all workers are there" in done.stdout
    history = results.load(laptop / "runs" / "wide")
    assert history.ended["outcome"] == "finished" and history.told == 4
    assert any((laptop / "runs" / "wide" / "best").iterdir())
    assert not (laptop / "runs" / "wide" / "trials").exists()


def test_a_sweep_goes_on_from_the_bucket_and_its_state_is_read_there(cluster, laptop, runs):
    more = sweep(cluster, laptop, "--resume", within(runs, "wide", "bucket"), "--trials", "6")
    assert more.returncode == 0, more.stdout + more.stderr
    assert results.load(laptop / "runs" / "wide").told == 6

    status = sweep(cluster, laptop, "status", "wide", "--json")
    assert json.loads(status.stdout)["trials"]["total"] == 6, status.stderr
