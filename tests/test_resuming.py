"""`train` stopped and resumed, by its own signals, as a user does it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from ristune import evaluate, train
from ristune.training import resume
from ristune.training.record import CLOCKS

LONG = ["training.epochs=6", "training.batch_size=2", "training.average=ema", "training.accumulate=3"]


def records(folder):
    rows = [json.loads(line) for line in (folder / train.RECORDS).read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


@pytest.fixture(scope="module")
def whole(toy_dataset, tmp_path_factory):
    """A training that was never stopped."""
    from tests.conftest import TOY

    out = tmp_path_factory.mktemp("whole") / "run"
    assert train.main([*TOY, f"data.uri={toy_dataset}", *LONG, "--out", str(out)]) == 0
    return records(out)


def stopped(arguments, out, number, lines):
    """Start a training, and send it a signal when it has reported so many epochs."""
    command = [sys.executable, "-m", "ristune.train", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    path = out / train.RECORDS
    while process.poll() is None and not (path.exists() and len(path.read_text().splitlines()) >= lines):
        time.sleep(0.005)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_training_goes_on_to_the_same_records(toy, tmp_path, whole, number):
    out = tmp_path / "run"
    # A state after each window: a killed training has lost the time since the last one, and no more.
    arguments = toy(*LONG, "training.checkpoint_seconds=1e-9", "--out", str(out))
    code, said = stopped(arguments, out, number, lines=2)
    assert 2 <= len(records(out)) < len(whole)
    if number is signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130
        assert "stopping after this step" in said
        assert f"go on: python -m ristune.train --resume {out}" in said
    assert train.main(["--resume", str(out)]) == 0
    assert records(out) == whole
    assert evaluate.main(["--checkpoint", str(out / "best"), "--split", "val"]) == 0


def test_a_record_whose_state_was_not_kept_any_more_is_made_again(toy, tmp_path, whole):
    out = tmp_path / "run"
    code, _ = stopped(toy(*LONG, "--out", str(out)), out, signal.SIGTERM, lines=2)
    assert code == 130
    # As if it had been killed after it reported an epoch and before its state was kept, in mid-line.
    done = len(records(out))
    extra = json.dumps({**whole[done], "val/mse": 99.0})
    with (out / train.RECORDS).open("a") as file:
        file.write(f"{extra}\n{extra[:20]}")
    assert train.main(["--resume", str(out)]) == 0
    assert records(out) == whole


def test_a_complete_training_says_so(toy, tmp_path, capsys):
    out = tmp_path / "run"
    assert train.main(toy("training.epochs=1", "--out", str(out))) == 0
    assert not (out / resume.FOLDER).exists()
    capsys.readouterr()
    assert train.main(["--resume", str(out)]) == 2
    assert "this training is complete" in capsys.readouterr().err


def test_a_resumed_training_keeps_its_configuration(toy, tmp_path, capsys):
    out = tmp_path / "run"
    code, _ = stopped(toy(*LONG, "--out", str(out)), out, signal.SIGTERM, lines=1)
    assert code == 130
    for wrong, message in [
        (
            ["optimizer.lr=1"],
            "override: got 'optimizer.lr=1'; a resumed training may be given another",
        ),
        (["--out", "x"], "--out: got 'x'; a training is resumed in its own folder"),
        (["--from", "x"], "--from: got 'x'; a training is resumed in its own folder"),
        (["data.uri=/nowhere"], "data.uri"),
    ]:
        capsys.readouterr()
        assert train.main(["--resume", str(out), *wrong]) == 2
        assert message in capsys.readouterr().err
    assert train.main(["--resume", str(out), "training.device=cpu"]) == 0


def test_a_folder_without_a_training_is_refused(tmp_path, capsys):
    assert train.main(["--resume", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_training_that_ignores_a_closed_terminal_goes_on(toy, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "ristune.train", *toy("training.epochs=40", "--out", str(out))]
    process = subprocess.Popen(["nohup", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / train.RECORDS).exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0 and len(records(out)) == 40


def test_a_resumed_training_keeps_what_it_was_made_from(toy, tmp_path):
    out = tmp_path / "run"
    arguments = toy(*LONG, "optimizer.lr=0.001", "--out", str(out))
    assert stopped(arguments, out, signal.SIGTERM, lines=1)[0] == 130
    assert train.main(["--resume", str(out), "training.device=cpu"]) == 0
    overrides = json.loads((out / "best" / "state.json").read_text())["overrides"]
    assert "optimizer.lr=0.001" in overrides and overrides[-1] == "training.device=cpu"


def test_memory_that_ends_at_once_is_reported(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tests.toy.ToyTask.metrics", lambda *_: torch.ones(1 << 46))
    out = tmp_path / "run"
    assert train.main(toy("--out", str(out))) == 1
    assert [r["status"] for r in records(out)] == ["oom"]
    assert "oom: " in capsys.readouterr().out


def test_a_second_signal_stops_at_once(toy, tmp_path):
    out = tmp_path / "run"
    arguments = toy("training.epochs=100000", "--out", str(out))
    process = subprocess.Popen([sys.executable, "-m", "ristune.train", *arguments], stdout=subprocess.DEVNULL)
    while not (out / train.RECORDS).exists():
        time.sleep(0.01)
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.001)
    assert process.wait(timeout=30) == 130
