"""Trackers that fail or hang."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ristune.sweep import watching
from ristune.sweep import worker as worker_module
from tests.sweep.actors import MakeActor, values_of

# A worker whose tracker is W&B online, and a server that is down, or takes what it is sent and never answers.
SCRIPT = """
import os, socket, sys, time
from pathlib import Path
server = socket.create_server(("127.0.0.1", 0))
address = "http://127.0.0.1:%d" % server.getsockname()[1]
if sys.argv[1] == "down":
    server.close()
os.environ.update(WANDB_API_KEY="x" * 40, WANDB_BASE_URL=address)
from ristune.config import compose
from ristune.sweep import watching
from tests.sweep.actors import Actor
watching.PATIENCE = 2.0
overrides = ["task=toy", "space=toy", "tracking.mode=online", "training.device=cpu", "training.epochs=2"]
actor = Actor(compose([*overrides, f"data.uri={sys.argv[2]}"], ["tests/configs"]), Path(sys.argv[3]))
began = time.monotonic()
for name in ("0000", "0001"):
    results = actor.run(name)
    print(results[-1]["status"], [text for result in results for text in result["warnings"]])
actor.worker.cleanup()
print("waited", int(time.monotonic() - began), flush=True)
os._exit(0)
"""


class Hanging:
    """A run, one of whose calls does not return until it is let go."""

    def __init__(self, where: str, held: threading.Event) -> None:
        self.where = where
        self.held = held
        self.rows: list[int] = []

    def at(self, where: str) -> None:
        if where == self.where:
            self.held.wait()

    def log(self, row: Mapping[str, Any], step: int) -> None:
        self.rows.append(step)
        self.at("log")

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.at("finish")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    monkeypatch.setattr(watching, "PATIENCE", 0.5)
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("where", ["start", "log", "finish", "close"])
def test_a_tracker_that_hangs_is_waited_for_once_and_costs_no_trial(
    make_actor: MakeActor, monkeypatch: pytest.MonkeyPatch, held: threading.Event, where: str
) -> None:
    closed: list[str] = []

    @contextmanager
    def track(*args: Any, **kwargs: Any) -> Iterator[Hanging]:
        run = Hanging(where, held)
        run.at("start")
        try:
            yield run
        finally:
            run.at("close")
            closed.append(kwargs["name"])

    silent = values_of(make_actor("tracking.mode=disabled").run("0000"))
    monkeypatch.setattr(worker_module, "track", track)
    actor = make_actor()
    first, second = actor.run("0000"), actor.run("0001")
    assert values_of(first) == silent
    assert [result["status"] for result in (first[-1], second[-1])] == ["complete"] * 2
    [warning] = [text for result in first for text in result["warnings"]]
    assert warning == f"tracking: {where} took more than 0.5 s, the trial goes on without"
    [warning] = [text for result in second for text in result["warnings"]]
    assert warning == f"tracking: {where} in this worker still hangs, the trial goes on without"
    # Nobody waits for the context of what hangs, not by letting go of it either.
    assert closed == []
    held.set()
    actor.worker._watching._hung.thread.join()
    third = actor.run("0002")
    assert [text for result in third for text in result["warnings"]] == []
    assert closed[-1] == "s-0002"


@pytest.mark.parametrize("server", ["down", "silent"])
def test_a_server_of_wandb_that_does_not_answer_costs_no_trial(
    dataset: Path, tmp_path: Path, server: str
) -> None:
    command = [sys.executable, "-c", SCRIPT, server, str(dataset), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=200)
    first, second, waited = found.stdout.splitlines()[-3:]
    assert first.startswith("complete ['tracking: start ") and "the trial goes on without" in first
    assert second.startswith("complete ['tracking: start ")
    # As long as the two trials may wait for their tracker, and some for a machine that is busy.
    assert int(waited.split()[1]) < 60


def test_a_trial_that_raises_marks_its_run_as_failed_though_it_hangs(
    make_actor: MakeActor, monkeypatch: pytest.MonkeyPatch, held: threading.Event
) -> None:
    @contextmanager
    def track(*args: Any, **kwargs: Any) -> Iterator[Hanging]:
        try:
            yield Hanging("", held)
        except RuntimeError:
            held.wait()
            raise

    monkeypatch.setattr(worker_module, "track", track)
    actor = make_actor()
    [failed] = actor.run("0000", task__fail=True)
    assert (failed["status"], failed["reason"]) == ("failed", "RuntimeError: planted failure")
    assert failed["warnings"] == ["tracking: close took more than 0.5 s, the trial goes on without"]
    assert actor.run("0001")[-1]["status"] == "complete"
