import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ristune import evaluate, simulate, train
from ristune.training import checkpoint
from ristune.training.record import CLOCKS

ROOT = Path(__file__).parents[1]


def records(folder):
    return [json.loads(line) for line in (Path(folder) / "records.jsonl").read_text().splitlines()]


def error_of(capsys):
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_train_writes_records_the_best_checkpoint_and_a_summary(toy, tmp_path, capsys):
    out = tmp_path / "first"
    assert train.main(toy("training.epochs=3", "--out", str(out))) == 0
    rows = records(out)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(row["batches"] == row["steps"] + row["skipped"] == 2 * row["epoch"] for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "complete" and summary["objective"] == min(r["val/mse"] for r in rows)
    state = checkpoint.load(out / "best").state
    assert state["epoch"] == summary["best_epoch"] and state["val"]["mse"] == summary["objective"]
    assert yaml.safe_load((out / "config.yaml").read_text())["training"]["epochs"] == 3
    shown = capsys.readouterr().out
    assert "mse" in shown and f"python -m ristune.evaluate --checkpoint {out}/best" in shown


def test_the_same_command_gives_the_same_records(toy, tmp_path):
    both = []
    for name in ("a", "b"):
        assert train.main(toy("training.epochs=2", "--out", str(tmp_path / name))) == 0
        both.append([{k: v for k, v in r.items() if k not in CLOCKS} for r in records(tmp_path / name)])
    assert both[0] == both[1]


def test_evaluate_gives_the_metrics_that_were_validated(toy, tmp_path, capsys):
    out = tmp_path / "run"
    assert train.main(toy("training.epochs=2", "--out", str(out))) == 0
    tables = tmp_path / "tables.json"
    arguments = ["--checkpoint", str(out / "best"), "--split", "val", "--out", str(tables)]
    assert evaluate.main(arguments) == 0
    (rows,) = json.loads(tables.read_text()).values()
    assert rows[0]["mse"] == pytest.approx(checkpoint.load(out / "best").state["val"]["mse"], rel=1e-6)
    assert "metrics, 64 samples of val" in capsys.readouterr().out


def test_train_from_best_values_takes_them_and_lets_the_command_line_win(toy, tmp_path):
    best = tmp_path / "best.yaml"
    overrides = [text for text in toy("optimizer.lr=0.05", "training.epochs=9") if "=" in text]
    best.write_text(yaml.safe_dump({"config_dirs": ["tests/configs"], "overrides": overrides}))
    out = tmp_path / "longer"
    assert train.main(["--from", str(best), "training.epochs=1", "--out", str(out)]) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == 0.05 and config["training"]["epochs"] == 1


def test_a_local_dataset_that_is_missing_is_simulated_and_said_so(toy, tmp_path, capsys):
    uri = tmp_path / "new"
    more = [f"data.uri={uri}", "simulator.train=64", "simulator.val=32", "simulator.test=32"]
    assert train.main(toy(*more, "training.epochs=1", "--out", str(tmp_path / "run"))) == 0
    assert (uri / "manifest.json").is_file()
    assert "does not exist yet: simulating it" in capsys.readouterr().out


def test_a_run_that_diverges_exits_1_with_its_reason(toy, tmp_path, capsys):
    out = tmp_path / "run"
    assert train.main(toy("task.explode=true", "training.max_skips=2", "--out", str(out))) == 1
    assert "diverged: 2 steps in a row were skipped: loss term 'squared' is inf" in capsys.readouterr().out
    (row,) = records(out)
    assert row["status"] == "diverged" and row["objective"] == 1e6 and "val/mse" not in row


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["optimizer.lrr=1"], "override: got 'optimizer.lrr'.*did you mean 'optimizer.lr'"),
        (["training.objective=accuracy"], "training.objective: got 'accuracy'; it must be a metric"),
        (["training.device=cuda"], "training.device: got 'cuda'; torch must see a GPU"),
        (["seed=-1"], r"seed: got -1; it must be in \[0, 2\*\*32\)"),
        (["data.train_limit=100000"], "data.train_limit: got 100000"),
        (
            ["data.uri=s3://b/d?endpoint=http://127.0.0.1:9&deadline=0.5"],
            "127.0.0.1:9 must answer within 0.5 s",
        ),
        (["--from", "missing.yaml"], "--from: got 'missing.yaml'; it must be a YAML file"),
    ],
)
def test_bad_input_exits_2_with_one_line(toy, tmp_path, capsys, more, message):
    assert train.main(toy(*more, "--out", str(tmp_path / "run"))) == 2
    assert re.search(message, error_of(capsys))


def test_an_output_that_cannot_be_written_is_refused_before_any_work(toy, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = toy("data.uri=/nowhere/at/all", "--out", str(tmp_path / "file" / "run"))
    assert train.main(arguments) == 2
    assert "--out: got" in error_of(capsys)


def test_an_earlier_training_is_never_overwritten(toy, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert train.main(toy("training.epochs=1", "--out", out)) == 0
    capsys.readouterr()
    assert train.main(toy("training.epochs=1", "--out", out)) == 2
    assert "it must not hold an earlier training" in error_of(capsys)


def test_a_truncated_shard_is_refused_by_name(toy, tmp_path, capsys):
    uri = tmp_path / "cut"
    assert simulate.main(["task=toy", "--config-dir", "tests/configs", "--out", str(uri)]) == 0
    shard = uri / "train" / "00000.parquet"
    os.truncate(shard, shard.stat().st_size // 2)
    capsys.readouterr()
    assert train.main(toy(f"data.uri={uri}", "--out", str(tmp_path / "run"))) == 2
    assert "train/00000.parquet" in error_of(capsys)


def test_a_checkpoint_of_another_network_is_refused(toy, tmp_path, capsys):
    out = tmp_path / "run"
    assert train.main(toy("training.epochs=1", "--out", str(out))) == 0
    capsys.readouterr()
    assert evaluate.main(["--checkpoint", str(out / "best"), "task.width=5"]) == 2
    assert "its weights must fit the network" in error_of(capsys)


@pytest.mark.parametrize("command", [simulate, train, evaluate])
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and "exit status:" in shown


def test_show_config_prints_the_resolved_configuration(capsys):
    assert train.main(["--show-config", "optimizer.lr=0.5"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["optimizer"]["lr"] == 0.5 and shown["data"]["uri"] == "data/nearfield"


def test_the_console_script_dispatches_on_the_first_word():
    def ristune(*arguments):
        return subprocess.run([sys.executable, "-m", "ristune", *arguments], capture_output=True, text=True)

    assert "simulate" in ristune("--help").stdout
    shown = ristune("train", "--show-config", "seed=5")
    assert shown.returncode == 0 and yaml.safe_load(shown.stdout)["seed"] == 5
    wrong = ristune("trian")
    assert wrong.returncode == 2 and "error: command: got 'trian'" in wrong.stderr


def test_ctrl_c_ends_a_training_and_keeps_what_is_there(toy, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "ristune.train", *toy("training.epochs=100000", "--out", str(out))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (out / "best" / "state.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "best epoch" in shown
    rows = records(out)
    assert rows and checkpoint.load(out / "best").state["epoch"] <= rows[-1]["epoch"] + 1


def test_the_simulator_of_the_documentation_works(tmp_path, capsys, monkeypatch):
    text = (ROOT / "docs" / "your-own-task.md").read_text()
    (code,) = [part for part in re.findall(r"```python\n(.*?)```", text, re.S) if "class MySimulator" in part]
    (values,) = [part for part in re.findall(r"```yaml\n(.*?)```", text, re.S) if "MySimulator" in part]
    (tmp_path / "my_package.py").write_text(code)
    for group, content in {
        "simulator": values,
        "task": "_target_: tests.toy.ToyTask\nname: mine\nobjective: mse\nwidth: 4\nscale: 1.0\n",
    }.items():
        (tmp_path / "configs" / group).mkdir(parents=True)
        (tmp_path / "configs" / group / "mine.yaml").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    uri = str(tmp_path / "data")
    own = ["task=mine", "--config-dir", str(tmp_path / "configs")]
    assert simulate.main([*own, "--out", uri, "--train", "64", "--val", "32", "--test", "32"]) == 0
    # The line it ends with is the command that goes on.
    last = capsys.readouterr().out.strip().splitlines()[-1]
    arguments = shlex.split(last.partition("ristune.train ")[2])
    more = ["training.epochs=1", "tracking.mode=disabled", "--out", str(tmp_path / "run")]
    assert train.main([*arguments, *more]) == 0


def test_a_simulator_that_lacks_something_is_told_what(toy, tmp_path, capsys):
    (tmp_path / "simulator").mkdir()
    (tmp_path / "simulator" / "bare.yaml").write_text("_target_: tests.toy.ToyTask\nwidth: 4\nscale: 1.0\n")
    more = ["--config-dir", str(tmp_path), "simulator=bare", "--out", str(tmp_path / "d")]
    assert simulate.main(toy(*more)) == 2
    assert "missing: name, version, columns" in error_of(capsys)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("simulator.train=500", "rows.train: 128 there, 500 asked"),
        ("simulator.noise=0.7", "parameters.noise: 0.1 there, 0.7 asked"),
        ("simulator.seed=8", "seed: 7 there, 8 asked"),
    ],
)
def test_what_is_asked_of_a_dataset_that_exists_must_hold(toy, tmp_path, capsys, override, message):
    assert (
        train.main(toy("simulator.val=64", "simulator.test=64", override, "--out", str(tmp_path / "r"))) == 2
    )
    assert message in error_of(capsys)


def test_bad_input_leaves_no_folder(toy, tmp_path):
    assert train.main(toy("training.objective=accuracy", "--out", str(tmp_path / "a" / "b"))) == 2
    assert not (tmp_path / "a").exists()


def test_a_checkpoint_is_measured_as_it_was_trained_whatever_the_yaml_says_now(toy, tmp_path, capsys):
    out = tmp_path / "run"
    assert train.main(toy("training.epochs=1", "task.width=7", "--out", str(out))) == 0
    saved = checkpoint.load(out / "best")
    state = {**saved.state, "overrides": ["gone=1"], "config_dirs": ["/gone"]}
    checkpoint.write(out / "best", {checkpoint.WEIGHTS: saved.tensors(checkpoint.WEIGHTS)}, state)
    assert evaluate.main(["--checkpoint", str(out / "best"), "--split", "val"]) == 0


def test_a_dataset_that_was_written_anew_is_refused(toy, tmp_path, capsys):
    uri = tmp_path / "data"
    sizes = ["--train", "64", "--val", "32", "--test", "32"]
    assert simulate.main(["task=toy", "--config-dir", "tests/configs", "--out", str(uri), *sizes]) == 0
    out = tmp_path / "run"
    assert train.main(toy(f"data.uri={uri}", "training.epochs=1", "--out", str(out))) == 0
    shutil.rmtree(uri)
    again = ["task=toy", "--config-dir", "tests/configs", "simulator.seed=8", "--out", str(uri), *sizes]
    assert simulate.main(again) == 0
    capsys.readouterr()
    assert evaluate.main(["--checkpoint", str(out / "best")]) == 2
    assert "it must be the dataset of the training" in error_of(capsys)
    assert evaluate.main(["--checkpoint", str(out / "best"), "--data", str(uri)]) == 0


@pytest.mark.parametrize("file", ["weights.safetensors", "state.json"])
def test_a_checkpoint_that_was_cut_off_is_refused(toy, tmp_path, capsys, file):
    out = tmp_path / "run"
    assert train.main(toy("training.epochs=1", "--out", str(out))) == 0
    os.truncate(out / "best" / file, 40)
    capsys.readouterr()
    assert evaluate.main(["--checkpoint", str(out / "best")]) == 2
    assert "must be whole" in error_of(capsys)
