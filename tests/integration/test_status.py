"""What is asked of a sweep from another terminal, while a real Ray runs it and after."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ristune.sweep.__main__ import main
from tests.integration.sweeps import ROOT, end, start, wait_for

pytestmark = pytest.mark.ray


def asked(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def test_a_sweep_tells_how_it_stands_while_it_runs_and_after(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--trials", "4", "training.epochs=200", "sweep.grace=10", "tracking.mode=disabled")
    process = start(home, "wide", *more)
    folder = home / "runs" / "wide"
    wait_for(folder / "journal" / "events.jsonl", lambda text: text.count('"reported"') > 5, process)
    follower = subprocess.Popen(
        [sys.executable, "-m", "ristune.sweep", "status", str(folder), "--follow"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    known = json.loads(asked(capsys, "status", str(folder), "--json"))
    assert known["state"] == "running" and known["driver"].startswith(f"process {process.pid} on ")
    assert known["trials"]["running"] >= 1 and known["running"][0]["epoch"] >= 1
    assert f"running by process {process.pid}" in asked(capsys, "status", str(folder))
    assert asked(capsys, "list", str(home / "runs")).splitlines()[1].split()[:2] == ["wide", "running"]
    values = yaml.safe_load(asked(capsys, "best", str(folder), "--yaml"))
    assert any(text.startswith("optimizer.lr=") for text in values["overrides"])
    sweep = end(process, home, "wide")
    # To be read by others did it no harm.
    assert (sweep.status, sweep.stderr) == (0, "")
    out, errors = follower.communicate(timeout=60)
    assert (follower.returncode, errors) == (0, "")
    assert "sweep finished" in out and "wide: finished" in out
    known = json.loads(asked(capsys, "status", str(folder), "--json"))
    assert known["state"] == "finished"
    assert {key: known[key] for key in sweep.summary} == sweep.summary
    best = asked(capsys, "best", str(folder)).splitlines()
    assert f"checkpoint: {folder / 'trials' / sweep.summary['best']['trial'] / 'best'}" in best
    # The very command that the sweep itself ended with.
    assert best[-1] == sweep.stdout.splitlines()[-1]
    assert asked(capsys, "best", str(folder), "--yaml") == (folder / "best.yaml").read_text()
