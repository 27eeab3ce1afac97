"""Simulating on several processes, on a real Ray, as a shell starts it."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.drawing import files
from tests.integration.slow import PACE
from tests.integration.sweeps import CONFIGS, ROOT, environment, launch, leftovers, soon_gone, titled, worker

pytestmark = pytest.mark.ray
SHARDS = 9
# What Ray calls a process of the pool.
TITLE = "ray::_Worker"
SLOW = """\
_target_: tests.integration.slow.SlowSimulator
train: 80
val: 10
test: 0
seed: 7
noise: 0.1
"""
# What a pool promises, seen from inside; prints JSON.
INSIDE = """
import json, os, threading, time
import numpy, torch
from threadpoolctl import threadpool_info
from ristune.errors import InputError
from ristune.parallel import pool

def work(item, progress):
    for _ in range(3):
        progress(item)
        time.sleep(0.2)
    threads = [torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info())]
    return item, os.getpid(), time.time(), threads

def fail(item, progress):
    raise InputError("file", item, "a rule", "a remedy")

def locked(item, progress, lock=threading.Lock()):
    pass

counts, found = [], {}
with pool(2) as over:
    found["results"] = list(over(work, range(1, 7), counts.append))
    found["counts"] = counts
    for name, function in (("error", fail), ("unpicklable", locked)):
        try:
            list(over(function, [5], None))
        except InputError as error:
            found[name] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""
# A cluster of one node that lives until its input ends; prints its address.
CLUSTER = """
import sys, ray
from ristune.parallel import ray_running
with ray_running(2, 0, None, {}):
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(home: Path) -> Path:
    (home / "configs" / "simulator").mkdir(parents=True)
    (home / "configs" / "simulator" / "slow.yaml").write_text(SLOW)
    return home


def start(home: Path, uri: Path, *more: str, pace: float = 0, **variables: str) -> subprocess.Popen[str]:
    command = ["task=toy", "simulator=slow", "--config-dir", str(home / "configs"), "--shard-rows", "10"]
    return launch(
        ["ristune.simulate", *command, "--config-dir", str(CONFIGS), "--out", str(uri), *more],
        {**environment(home), PACE: str(pace), **variables},
    )


def end(process: subprocess.Popen[str]) -> str:
    shown, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert errors == ""
    assert soon_gone(process.pid), leftovers(process.pid)
    return shown


@pytest.fixture
def whole(home: Path) -> dict[str, bytes]:
    """The files of the dataset as one process writes it."""
    end(start(home, home / "whole"))
    return files(home / "whole")


def wait_for_records(uri: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while len(list(uri.glob("unfinished.d/*/*.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no shard was written"
        time.sleep(0.02)


def assert_continued(home: Path, whole: dict[str, bytes]) -> None:
    kept = len(list((home / "d").glob("unfinished.d/*/*.json")))
    assert 2 <= kept < SHARDS
    shown = end(start(home, home / "d", "--workers", "2"))
    assert f"{kept} of {SHARDS} shards are there already, going on" in shown
    assert files(home / "d") == whole


def test_several_processes_write_the_same_bytes_as_one(home: Path, whole: dict[str, bytes]) -> None:
    shown = end(start(home, home / "d", "--workers", "2"))
    assert "with 2 processes" in shown and "90 samples" in shown
    assert files(home / "d") == whole


@pytest.mark.parametrize(
    ("number", "to_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, True)],
    ids=["ctrl-c", "sigterm", "closed terminal"],
)
def test_an_interrupted_simulation_leaves_no_process_and_is_continued_by_the_same_command(
    home: Path, whole: dict[str, bytes], number: signal.Signals, to_group: bool
) -> None:
    process = start(home, home / "d", "--workers", "2", pace=1)
    wait_for_records(home / "d", 2, process)
    os.killpg(process.pid, number) if to_group else os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted\n"
    assert soon_gone(process.pid), leftovers(process.pid)
    assert_continued(home, whole)


def test_a_simulation_that_is_killed_is_continued_by_the_same_command(
    home: Path, whole: dict[str, bytes]
) -> None:
    process = start(home, home / "d", "--workers", "2", pace=1)
    wait_for_records(home / "d", 2, process)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while titled(process.pid, TITLE):
        assert time.monotonic() < deadline, leftovers(process.pid)
        time.sleep(0.1)
    assert_continued(home, whole)
    # Ray's helpers outlive a driver that is killed; the next command ends them, and removes their folder.
    assert soon_gone(process.pid), leftovers(process.pid)
    assert not list(home.glob("ristune-*"))


def test_a_worker_that_is_killed_is_replaced(home: Path, whole: dict[str, bytes]) -> None:
    process = start(home, home / "d", "--workers", "2", pace=0.5)
    wait_for_records(home / "d", 2, process)
    os.kill(worker(process.pid, TITLE), signal.SIGKILL)
    end(process)
    assert files(home / "d") == whole


def test_a_pool_keeps_its_promises(home: Path) -> None:
    # What the user's shell says of threads is meant for one process.
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    variables = {**environment(home), **threads}
    run = subprocess.run(
        [sys.executable, "-c", INSIDE], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert sorted(result[0] for result in found["results"]) == [1, 2, 3, 4, 5, 6]
    assert len({process for _, process, _, _ in found["results"]}) == 2
    # Every numerical library of a worker has one thread.
    assert {count for *_, threads in found["results"] for count in threads} == {1}
    # What is counted arrives while items are worked on, and adds up.
    assert sum(found["counts"]) == 3 * 21 and len(found["counts"]) > 3
    assert found["error"] == ["InputError", "file: got 5; a rule; a remedy"]
    assert "what several processes share must be picklable" in found["unpicklable"][1]


def test_a_cluster_that_runs_already_is_used_and_left_running(home: Path, whole: dict[str, bytes]) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        cwd=ROOT,
        env={**environment(home), **token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as cluster:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        end(start(home, home / "d", "--workers", "2", "--address", address, **token))
        assert cluster.poll() is None
        cluster.communicate("", timeout=60)
    assert cluster.returncode == 0
    assert files(home / "d") == whole
