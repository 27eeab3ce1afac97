"""Sweeps whose nodes are about to be taken away, on several real raylets."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.sweep import whole
from tests.cluster.metadata_server import serving
from tests.integration.nodes import Nodes
from tests.integration.sweeps import CONFIGS, end, launch, leftovers, soon_gone, wait_for

pytestmark = pytest.mark.ray
TRIALS, EPOCHS = 3, 4


@pytest.fixture
def nodes(home: Path) -> Iterator[Nodes]:
    made = Nodes(home)
    yield made
    made.end()
    for process in made.launched:
        assert soon_gone(process.pid), leftovers(process.pid)


def start(nodes: Nodes) -> subprocess.Popen[str]:
    """A sweep of two trials at once, whose epochs have two hundred windows and take four seconds or more."""
    home = nodes.home
    (home / "places").mkdir()
    return launch(
        [
            *("ristune.sweep", "--address", nodes.address, "--name", "spot", "--trials", str(TRIALS)),
            *("task=placed", f"task.places={home / 'places'}", "simulator=toy", "space=toy"),
            *("--config-dir", str(CONFIGS), f"data.uri={home / 'data'}", f"output={home / 'runs'}"),
            *("simulator.train=800", "simulator.val=64", "simulator.test=64", "training.batch_size=4"),
            *("training.device=cpu", f"training.epochs={EPOCHS}", f"sweep.grace={EPOCHS}"),
            *("sweep.concurrency=2", "sweep.max_retries=0", "tracking.mode=disabled"),
        ],
        nodes.variables(),
    )


def both_train(nodes: Nodes, sweep: subprocess.Popen[str]) -> None:
    """Wait until a trial on each of two nodes has reported an epoch, so that it is in the middle of one."""
    journal = nodes.home / "runs" / "spot" / "journal" / "events.jsonl"

    def reported(text: str) -> bool:
        return all(f'"trial": "{trial}", "record"' in text for trial in ("0000", "0001"))

    wait_for(journal, reported, sweep)


def check(nodes: Nodes, process: subprocess.Popen[str], name: str, reason: str) -> None:
    """One trial has left the node while the sweep ran, it cost nothing, and the node got no other one."""
    assert process.poll() is None
    (nodes.home / "places" / "hurry").touch()
    sweep = end(process, nodes.home, "spot")
    assert sweep.status == 0, sweep.stderr
    assert whole.faults(sweep.folder, TRIALS) == []
    retried = [event for event in sweep.events if event["event"] == "retried"]
    assert [event["counted"] for event in retried] == [False]
    assert retried[0]["reason"].startswith(f"ristune.preemption.Preempted: {reason}")
    reported = Counter(
        (event["trial"], event["record"]["epoch"]) for event in sweep.events if event["event"] == "reported"
    )
    assert set(reported.values()) == {1}
    log = (sweep.folder / "trials" / retried[0]["trial"] / "log.txt").read_text()
    assert "goes on in epoch" in log
    given = nodes.notice(name).stat().st_mtime
    built = [line.split() for line in (nodes.home / "places" / "built").read_text().splitlines()]
    there = [float(time) for time, place in built if place == str(nodes.notice(name))]
    assert there
    assert max(there) < given


def test_a_notice_of_the_cloud_sends_a_trial_to_another_node(nodes: Nodes) -> None:
    with serving() as metadata:
        taken = nodes.add("taken")
        nodes.add("stays")
        agent = nodes.watch("taken", "--provider", "aws", "--endpoint", metadata.endpoint)
        process = start(nodes)
        both_train(nodes, process)
        time = datetime.now(UTC) + timedelta(minutes=2)
        metadata.action = {"action": "terminate", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ")}
        # With the raylet, which Ray ends as soon as nothing runs there.
        _, said = agent.communicate(timeout=100)
        assert agent.returncode == 0
        assert "the node has let go" in said
    check(nodes, process, "taken", "aws: terminate at ")
    # Ray's own command stays when its raylet was drained.
    assert taken.poll() is None


def test_sigterm_to_a_wrapped_ray_reaches_it_when_its_trial_has_left(nodes: Nodes) -> None:
    taken = nodes.add("taken", "--provider", "none", "--grace", "60")
    nodes.add("stays", "--provider", "none")
    process = start(nodes)
    both_train(nodes, process)
    taken.send_signal(signal.SIGTERM)
    _, said = taken.communicate(timeout=100)
    assert "SIGTERM: 60 s" in said
    assert "the node has let go" in said
    # As Ray answers it.
    assert taken.returncode == 1
    check(nodes, process, "taken", "SIGTERM")
