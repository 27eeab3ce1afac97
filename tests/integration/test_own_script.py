"""The script of the documentation, on a real Ray, killed on the way."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ristune.sweep import results
from ristune.sweep.history import State
from ristune.sweep.journal import read
from tests.integration.sweeps import ROOT, environment, launch, wait_for

pytestmark = pytest.mark.ray
TRIALS = 9


def own_script(home: Path) -> dict[str, str]:
    """Write the page's script as a module, and the environment in which it is found."""
    [script] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "own-tune-script.md").read_text(), re.DOTALL
    )
    for text, other in (("runs/mine", str(home / "mine")), ("trials=20", f"trials={TRIALS}")):
        assert text in script
        script = script.replace(text, other)
    (home / "own_script.py").write_text(script)
    return {**environment(home), "PYTHONPATH": f"{home}{os.pathsep}{ROOT}", "RAY_USAGE_STATS_ENABLED": "0"}


def test_a_script_that_is_killed_goes_on_when_it_is_run_again(home: Path) -> None:
    variables = own_script(home)
    journal = home / "mine" / "journal" / "events.jsonl"
    first = launch(["own_script"], variables)
    wait_for(journal, lambda text: text.count('"told"') >= 3, first)
    # A second one is refused while the first one runs.
    second = launch(["own_script"], variables)
    _, complaint = second.communicate(timeout=100)
    assert second.returncode and f"process {first.pid} on" in complaint
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=100)
    before = read(journal)
    third = launch(["own_script"], variables)
    _, complaint = third.communicate(timeout=250)
    assert third.returncode == 0, complaint[-3000:]
    events, history = read(journal), results.load(home / "mine")
    assert events[: len(before)] == before
    told = [event["trial"] for event in events if event["event"] == "told"]
    assert sorted(told) == [f"{number:04d}" for number in range(TRIALS)]
    assert history.ended["outcome"] == "finished"
    for trial in history.trials.values():
        assert trial.state in (State.COMPLETE, State.STOPPED)
        assert [record["epoch"] for record in trial.records] == list(range(1, trial.epoch + 1))
        assert trial.state is State.STOPPED or trial.epoch == 9
        assert trial.objective == min(record["objective"] for record in trial.records)
    # Whoever ran when the script was killed is the first to run when it goes on.
    was_told = {event["trial"] for event in before if event["event"] == "told"}
    running = [
        event["trial"] for event in before if event["event"] == "asked" and event["trial"] not in was_told
    ]
    resumed = [event for event in events[len(before) :] if event["event"] in ("started", "asked")]
    assert [event["trial"] for event in resumed[: len(running)]] == running
    best = subprocess.run(
        [sys.executable, "-m", "ristune.sweep", "best", str(home / "mine")],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert history.best is not None and best.returncode == 0, best.stderr
    assert history.best.id in best.stdout
