"""The agent of a node, as a shell starts it; what it does with a real Ray is among the integration tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from ristune.cluster import notice as module
from ristune.cluster.metadata import Nobody
from ristune.errors import InputError
from ristune.preemption import VARIABLE
from tests.cluster.metadata_server import MetadataServer

ROOT = Path(__file__).parents[2]
# A command that says in a file where its Ray would look, and, when a signal ends it, what it finds there.
COMMAND = """
import os, signal, sys, time
from pathlib import Path
said, notice = Path(sys.argv[1]), Path(os.environ["RISTUNE_NOTICE"])
def ended(number, frame):
    said.write_text("found: " + notice.read_text() if notice.exists() else "found none")
    sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, ended)
said.write_text(str(notice))
while True:
    time.sleep(0.05)
"""


class Start(Protocol):
    def __call__(self, *words: str) -> subprocess.Popen[str]: ...


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "notice"))
    made: list[subprocess.Popen[str]] = []

    def launch(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ristune.cluster.notice", *words]
        piped = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
        made.append(piped)
        return piped

    yield launch
    for process in made:
        if process.poll() is None:
            # It takes its command with it.
            process.terminate()
            process.wait(60)
        assert process.stderr is not None
        process.stderr.close()


def wrapped(tmp_path: Path) -> list[str]:
    return ["--", sys.executable, "-c", COMMAND, str(tmp_path / "said")]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_gives_notice_before_the_command_has_it_and_its_status_is_kept(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "notice").write_text("of an earlier Ray\n")
    agent = start("--provider", "none", *wrapped(tmp_path))
    until((tmp_path / "said").exists)
    # The command's Ray looks where the agent writes.
    until(lambda: (tmp_path / "said").read_text() == str(tmp_path / "notice"))
    assert not (tmp_path / "notice").exists()
    agent.send_signal(signal.SIGTERM)
    _, said = agent.communicate(timeout=60)
    assert (tmp_path / "notice").read_text() == "SIGTERM\n"
    assert (tmp_path / "said").read_text() == "found: SIGTERM\n"
    assert agent.returncode == 7
    assert "Ray is not there" in said


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: MetadataServer) -> Callable[[], int]:
    """An agent in this process, on Google Cloud, that is in a hurry."""
    monkeypatch.setattr(module, "PERIOD", 0.05)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "notice"))
    gcp = ("--provider", "gcp", "--endpoint", metadata.endpoint)
    return lambda: module.main([*gcp, *wrapped(tmp_path)])


def test_a_notice_of_the_cloud_ends_the_command(
    run: Callable[[], int], tmp_path: Path, metadata: MetadataServer
) -> None:
    metadata.answers = ["FALSE", "FALSE", "TRUE"]
    assert run() == 7
    assert (tmp_path / "notice").read_text() == "gcp: preempted\n"
    assert len(metadata.seen) == 3


def test_a_service_that_does_not_answer_is_asked_again_and_said_once(
    run: Callable[[], int], metadata: MetadataServer, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata.answers = ["", "PERHAPS", "", "FALSE", "TRUE"]
    assert run() == 7
    said = capsys.readouterr().err
    assert len(metadata.seen) == 5
    assert said.count("no answer") == 1
    assert said.count("answers again") == 1


def test_a_service_that_is_silent_for_long_is_asked_less_often_but_not_too_seldom() -> None:
    schedule = module._Schedule()
    waits = []
    for _ in range(2000):
        schedule.answered(False)
        waits.append(schedule.due - time.monotonic())
    assert waits[0] < waits[1] < waits[2]
    assert max(waits) <= module.LONGEST
    schedule.answered(True)
    assert schedule.due - time.monotonic() <= module.PERIOD


def test_a_signal_to_the_agents_group_reaches_its_command_once_notice_was_given(
    start: Start, tmp_path: Path
) -> None:
    agent = start("--provider", "none", *wrapped(tmp_path))
    until((tmp_path / "said").exists)
    os.killpg(agent.pid, signal.SIGTERM)
    assert agent.wait(60) == 7
    assert (tmp_path / "said").read_text() == "found: SIGTERM\n"


def test_ctrl_c_is_passed_on(start: Start, tmp_path: Path) -> None:
    agent = start("--provider", "none", *wrapped(tmp_path))
    until((tmp_path / "said").exists)
    agent.send_signal(signal.SIGINT)
    assert agent.wait(60) == 7
    assert (tmp_path / "said").read_text() == "found none"


def test_a_command_that_ends_ends_the_agent_without_a_notice(start: Start, tmp_path: Path) -> None:
    agent = start("--provider", "none", "--", sys.executable, "-c", "raise SystemExit(3)")
    assert agent.wait(60) == 3
    assert not (tmp_path / "notice").exists()


def test_a_second_agent_of_a_node_is_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start("--provider", "none", *wrapped(tmp_path))
    until((tmp_path / "said").exists)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert module.main(["--provider", "none"]) == 2
    assert "it may have one agent, and another process is that" in capsys.readouterr().err


def test_an_agent_without_a_ray_that_would_see_its_notice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "notice"))
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert module.main(["--provider", "none"]) == 2
    assert "no raylet that was started with it" in capsys.readouterr().err


def test_a_command_that_cannot_be_started_is_refused(tmp_path: Path) -> None:
    agent = module.Agent(Nobody(), tmp_path / "notice", 1, ["/no/such/program"])
    with pytest.raises(InputError, match="/no/such/program"):
        agent.run()


def test_a_log_that_nobody_reads_costs_no_agent(start: Start, tmp_path: Path) -> None:
    agent = start("--provider", "none", *wrapped(tmp_path))
    until((tmp_path / "said").exists)
    assert agent.stderr is not None
    agent.stderr.close()
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(60) == 7
