"""A laptop and a cluster of one host: `ray up` starts it, and sweeps run there without the laptop."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.testbed import bed
from ristune.sweep import results
from tests.integration.sweeps import CONFIGS, ROOT, kill_what_runs, launch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
# The folder that all hosts see.
SHARED = "/home/shared"
LONG = ("training.epochs=100000", "sweep.grace=100000")


@pytest.fixture(scope="module")
def hosts() -> Iterator[bed.Bed]:
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        running = bed.up(Path(folder) / "bed", workers=1)
        try:
            content = yaml.safe_load(running.cluster_file.read_text())
            # The head alone, which trains: that workers join is tested where they do.
            content["provider"]["worker_ips"] = []
            content["head_setup_commands"] = content["worker_setup_commands"] = []
            content["head_start_ray_commands"] = [
                command.replace("--num-cpus=0", "--num-cpus=1")
                for command in content["head_start_ray_commands"]
            ]
            running.cluster_file.write_text(yaml.safe_dump(content))
            yield running
        finally:
            kill_what_runs()
            bed.down(Path(folder) / "bed")


@pytest.fixture(scope="module")
def laptop(hosts) -> Path:
    """A folder with a task of the user's own."""
    folder = hosts.path("laptop") / "work"
    folder.mkdir()
    (folder / "tests").symlink_to(ROOT / "tests")
    return folder


def sweep(hosts, laptop, *words: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "WANDB_"))}
    variables = {**clean, **hosts.environment, "HOME": str(laptop.parent), "PYTHONPATH": str(ROOT)}
    return launch(["ristune.sweep", *words, "--cluster", str(hosts.cluster_file)], variables, laptop)


def submit(hosts, laptop, name: str, *more: str) -> subprocess.Popen[str]:
    return sweep(
        *(hosts, laptop, "--shared", "--name", name, "task=toy", "space=toy", "--config-dir", str(CONFIGS)),
        *(
            f"data.uri={SHARED}/data",
            f"output={SHARED}/runs",
            "training.device=cpu",
            "tracking.mode=disabled",
        ),
        *("simulator.train=256", "simulator.val=64", "simulator.test=64", *more),
    )


def until(process: subprocess.Popen[str], text: str) -> str:
    """What it prints, until a text comes."""
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if text in line:
            return shown
    raise AssertionError(f"{text!r} did not come: {shown}{process.communicate()}")


def test_a_sweep_outlives_who_follows_it_and_is_followed_again(hosts, laptop):
    first = submit(hosts, laptop, "wide", "--trials", "2", "training.epochs=800", "sweep.scheduler=none")
    shown = until(first, "trial=0000 started")
    assert "starting the cluster" in shown and "sweep wide submitted: 2 trials, 1 at once" in shown
    first.kill()
    first.communicate(timeout=20)

    status = sweep(hosts, laptop, "status", "wide", "--json")
    out, err = status.communicate(timeout=60)
    assert '"state": "running"' in out, out + err

    again = sweep(hosts, laptop, "--attach", "wide")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, out + err
    assert out.count("sweep finished") == 1 and "results: runs/wide" in out
    history = results.load(laptop / "runs" / "wide")
    assert history.ended["outcome"] == "finished" and history.told == 2
    assert {"summary.json", "best", "best.yaml", "trials.parquet", "config.yaml", "cluster.log"} <= {
        path.name for path in (laptop / "runs" / "wide").iterdir()
    }
    assert not (laptop / "runs" / "wide" / "trials").exists()
    best = yaml.safe_load((laptop / "runs" / "wide" / "best.yaml").read_text())
    assert best["config_dirs"] == [str(CONFIGS)]


def test_a_name_is_taken_once(hosts, laptop):
    other = laptop.with_name("other")
    other.mkdir(exist_ok=True)
    second = submit(hosts, other, "wide", "--trials", "3")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2 and "this cluster has run a sweep of that name" in err


def test_ctrl_c_lets_go_and_a_second_one_stops_the_sweep_cleanly(hosts, laptop):
    process = submit(hosts, laptop, "long", "--trials", "1", *LONG)
    shown = until(process, "trial=0000 started")
    assert "cluster" in shown and "is up" in shown, "the running cluster was started anew"
    until(process, "status finished=0/1 running=1")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "sweep interrupted reason='SIGTERM'" in out, "the driver was not given the time to end cleanly"
    assert f"--resume {SHARED}/runs/long --cluster {hosts.cluster_file} --shared" in err
    assert results.load(laptop / "runs" / "long").ended["outcome"] == "interrupted"


def test_a_stopped_sweep_goes_on_and_whoever_follows_it_sees_another_stop_it(hosts, laptop):
    resumed = sweep(hosts, laptop, "--resume", f"{SHARED}/runs/long", "--shared")
    until(resumed, "status finished=0/1 running=1")
    stop = sweep(hosts, laptop, "--stop", "long", "--down")
    _, err = stop.communicate(timeout=60)
    assert stop.returncode == 130 and "the cluster stays up, for the sweep did not end as it should" in err
    out, _ = resumed.communicate(timeout=60)
    assert resumed.returncode == 130 and "sweep interrupted reason='SIGTERM'" in out


def test_the_cluster_is_taken_down_when_the_results_are_here(hosts, laptop):
    process = submit(hosts, laptop, "last", "--trials", "1", "training.epochs=2", "--down")
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, out + err
    assert (laptop / "runs" / "last" / "summary.json").exists()
    assert out.endswith(f"taking the cluster bed-{hosts.tag} down\n")
    asked = sweep(hosts, laptop, "--attach", "last")
    _, err = asked.communicate(timeout=60)
    assert asked.returncode == 1 and "is not up: it has no head" in err
