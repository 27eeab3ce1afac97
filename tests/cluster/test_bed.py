import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.testbed import bed, host, network
from cluster.testbed.system import PROGRAMS
from ristune.errors import InputError
from tests.cluster.running import Cluster

pytestmark = pytest.mark.cluster

COMMAND = [sys.executable, "-m", "cluster.testbed"]
JOB = """
import ray, socket
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init()

@ray.remote(num_cpus=0)
def name():
    return socket.gethostname()

on = [NodeAffinitySchedulingStrategy(n["NodeID"], soft=False) for n in ray.nodes() if n["Alive"]]
print("ran on", *sorted(ray.get([name.options(scheduling_strategy=each).remote() for each in on])))
"""


def spaces(running: bed.Bed) -> dict[str, set[str]]:
    """The namespaces of a bed's hosts, by kind."""
    firsts = [running.first_process(name) for name in running.hosts]
    return {kind: {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in firsts} for kind in ("net", "pid", "mnt")}


def left(running: bed.Bed, of: dict[str, set[str]]) -> list[str]:
    """What is left of a bed: processes, links, mounts, names of network namespaces, files."""
    found = [path for path in (running.folder,) if os.path.exists(path)]
    for kind, names in of.items():
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "ns" / kind) in names:
                    found.append(f"process {entry.name}: {(entry / 'cmdline').read_text()}")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                # Gone by now, or one that not even root may ask: none of a bed's.
                continue
    found += [f"link {name}" for name in os.listdir("/sys/class/net") if running.tag in name]
    found += [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if running.folder in line
    ]
    named = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    return found + [f"network namespace {line}" for line in named.splitlines() if running.tag in line]


def ours() -> set[str]:
    """Links and processes of any bed."""
    lines = [path.read_bytes().split(b"\0") for path in Path("/proc").glob("[0-9]*/cmdline")]
    return {name for name in os.listdir("/sys/class/net") if name.startswith("ris")} | {
        repr(line) for line in lines if line[0] == b"unshare"
    }


def test_both_workers_join_with_the_token_and_bring_one_core_each(cluster: Cluster):
    assert {(node.host, node.cores) for node in cluster.nodes() if node.alive} == {
        ("head", 0.0),
        ("worker1", 1.0),
        ("worker2", 1.0),
    }


def test_a_worker_without_the_token_is_refused(cluster: Cluster):
    start = f"ray start --address={cluster.bed.address('head')}:6379 --temp-dir=/tmp/stranger --num-cpus=1"
    with pytest.raises(RuntimeError, match="InvalidAuthToken: Authentication token is missing or incorrect"):
        cluster.execute("worker1", f"unset RAY_AUTH_MODE; HOME=/tmp/stranger {start}")
    assert sum(node.alive for node in cluster.nodes()) == 3


def test_a_job_runs_on_every_host(cluster: Cluster):
    write = f"cat > job.py <<'END'\n{JOB}\nEND\n"
    printed = cluster.head_exec(
        f"{write} ray job submit --address=http://127.0.0.1:8265 -- python ~/job.py", timeout=120
    )
    assert "ran on head worker1 worker2" in printed, printed


def test_workers_join_only_after_they_have_reached_the_bucket(cluster: Cluster):
    log = cluster.head_exec("cat /tmp/ray/session_latest/logs/monitor.out")
    # As a terminal shows it: with colours, and in lines of its width.
    said = "".join(re.sub(r"\x1b\[[0-9;]*m", "", log).split())
    assert said.count(f"bucket{cluster.bucket}isreadandwritten") == len(cluster.workers), log


def test_hosts_share_neither_home_nor_tmp_nor_shared_memory_nor_name(cluster: Cluster):
    cluster.execute("worker1", "touch ~/mine /tmp/mine /dev/shm/mine")
    assert cluster.execute("worker2", "hostname; ls ~/mine /tmp/mine /dev/shm/mine 2>/dev/null || true") == (
        "worker2\n"
    )
    with pytest.raises(RuntimeError, match="Read-only file system"):
        cluster.execute("worker1", "touch /usr/mine")


def test_a_host_whose_network_is_cut_hears_nobody_until_it_is_mended(cluster: Cluster):
    address = cluster.bed.address("worker2")
    reach = f"timeout 2 bash -c '</dev/tcp/{address}/22'"
    cluster.head_exec(reach)
    cluster.cut("worker2")
    try:
        assert bed.condition(cluster.bed, "worker2") == "cut"
        with pytest.raises(RuntimeError, match="ended with 124"):
            cluster.head_exec(reach)
        assert cluster.execute("worker2", "hostname") == "worker2\n"
    finally:
        cluster.mend("worker2")
    cluster.head_exec(reach)


def test_a_killed_worker_is_lost_and_joins_again_when_it_is_revived(cluster: Cluster):
    cluster.execute("worker1", "touch ~/kept /tmp/lost")
    cluster.kill_host("worker1")
    cluster.wait_for("head", "worker2")
    cluster.revive("worker1")
    assert cluster.execute("worker1", "cd /; ls ~/kept /tmp/lost 2>/dev/null || true") == (
        "/home/ristune/kept\n"
    )
    cluster.wait_for("head", "worker1", "worker2")


def test_ray_down_and_down_leave_nothing_behind(tmp_path: Path):
    folder = tmp_path / "bed"
    running = bed.up(folder, workers=1)
    try:
        cluster = Cluster(running, "", {**os.environ, **running.environment})
        cluster.up()
        of = spaces(running)
        assert left(running, of), "what must be gone was never there"
        assert "raylet" in cluster.head_exec("ps -eo args")
        cluster.ray("down", "--yes", str(cluster.cluster_file))
        assert not re.search("raylet|gcs_server|ray::|dashboard", cluster.head_exec("ps -eo args"))
    finally:
        bed.down(folder)
    assert left(running, of) == []


def test_an_up_that_fails_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[bed.Bed] = []

    def fail(bridge: str, cable: str, *rest: object) -> None:
        made.append(bed.load(tmp_path / "bed"))
        assert spaces(bed.Bed(made[0].folder, made[0].network, ["head"]))
        raise RuntimeError("no cable left")

    before = ours()
    monkeypatch.setattr(network, "connect", fail)
    with pytest.raises(RuntimeError, match="no cable left"):
        bed.up(tmp_path / "bed")
    assert not (tmp_path / "bed").exists() and ours() <= before and left(made[0], {}) == []


def test_down_takes_away_what_a_killed_up_left(tmp_path: Path):
    folder = tmp_path / "bed"
    process = subprocess.Popen([*COMMAND, "up", "--folder", str(folder)])
    end = time.monotonic() + 60
    while not (folder / "bed.json").exists() or host.first_process(folder / "hosts" / "worker1") is None:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    running = bed.load(folder)
    assert left(running, {})
    assert subprocess.run([*COMMAND, "down", "--folder", str(folder)]).returncode == 0
    assert left(running, {}) == [] and host.first_process(folder / "hosts" / "worker1") is None


def test_two_beds_stand_side_by_side(tmp_path: Path):
    first = bed.up(tmp_path / "first", workers=1)
    try:
        second = bed.up(tmp_path / "second", workers=1)
        try:
            assert first.network != second.network
        finally:
            bed.down(tmp_path / "second")
        assert bed.condition(first, "worker1") == "up"
        with pytest.raises(InputError, match="a test bed is there already; `down` takes a bed away"):
            bed.up(tmp_path / "first")
        assert bed.condition(first, "worker1") == "up"
    finally:
        bed.down(tmp_path / "first")


def test_down_refuses_a_folder_that_is_no_beds(tmp_path: Path):
    (tmp_path / "precious").touch()
    with pytest.raises(InputError, match="this is no test bed's folder"):
        bed.down(tmp_path)
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("command", [["up"], ["status"], ["kill", "head"]])
def test_a_user_who_is_not_root_is_refused(tmp_path: Path, command: list[str]):
    # Nobody, but one who may read where this Python lies, which may be root's home.
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    reads = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    line = [*nobody, *reads, *COMMAND, *command, "--folder", str(tmp_path / "bed")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "user: got 65534; a test bed needs root (0)" in done.stderr
    assert not (tmp_path / "bed").exists()


def test_what_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in {*PROGRAMS} - {"sshd"}:
        (tmp_path / name).touch(0o755)
    monkeypatch.setattr("cluster.testbed.system.SEARCHED", str(tmp_path))
    with pytest.raises(InputError, match="got 'sshd'; .*apt-get install openssh-server$"):
        bed.up(tmp_path / "bed")
