import re

import pytest
import yaml

from ristune.doctor.__main__ import PURPOSES, main
from tests.conftest import TOY
from tests.doctor.report import doctor


def refused(capsys, arguments):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and len(captured.err.splitlines()) == 1
    assert not re.search("^(pass|FAIL)", captured.out, re.MULTILINE)
    return captured.err


def test_the_toy_passes_every_check(toy, capsys):
    rows = doctor(capsys, toy())
    assert {name: row for name, row in rows.items() if row.verdict != "pass"} == {}
    assert rows["steps"].text.startswith("8 batches, 8 windows, 8 steps, 0 skipped; loss ")
    assert "2 paths; the least change is" in rows["searched-values"].text


def test_another_kind_of_task_passes_every_check_but_those_it_has_no_hook_or_space_for(tmp_path, capsys):
    more = ["task=classes", "--config-dir", "tests/configs", f"data.uri={tmp_path / 'none'}"]
    rows = doctor(capsys, more)
    assert {name: row.verdict for name, row in rows.items() if row.verdict != "pass"} == {
        "truth": "skip",
        "searched-values": "skip",
    }
    assert "ClassTask has no hook truth(batch)" in rows["truth"].text
    assert "give space=NAME" in rows["searched-values"].text
    assert "task.weights.entropy, task.weights.norm" in rows["objective"].text


def test_a_network_without_its_inputs_is_found_in_another_kind_of_task(tmp_path, capsys):
    more = ["task=classes", "--config-dir", "tests/configs", f"data.uri={tmp_path / 'none'}"]
    rows = doctor(capsys, [*more, "task.dead=true"], only={"overfits", "predictions-vary"})
    assert [row.verdict for row in rows.values()] == ["FAIL", "FAIL"]


def test_list_names_every_check_with_a_line(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PURPOSES) and all(len(x.split()) > 3 for x in lines)


def test_the_checks_that_are_asked_for_run_in_their_own_order(toy, capsys):
    assert list(doctor(capsys, toy(), only={"gradients", "environment"})) == ["environment", "gradients"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--only", "gradient"], "--only: got 'gradient'; it must be one of environment, dataset, splits"),
        (["optimizer.lrr=1"], "did you mean 'optimizer.lr'?"),
        (["task._target_=tests.toy.Missing"], "_target_: got 'tests.toy.Missing'"),
        (["--from", "nothing.yaml"], "--from: got 'nothing.yaml'"),
        (["training.device=cuda"], "training.device: got 'cuda'; torch must see a GPU"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(toy, capsys, more, text, monkeypatch):
    if "training.device=cuda" in more:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert text in refused(capsys, toy(*more))


def test_a_space_that_does_not_fit_is_a_fault_where_it_was_asked_for(toy, capsys):
    rows = doctor(capsys, toy("space=wide"), only={"searched-values"})
    assert rows["searched-values"].verdict == "FAIL"
    assert "space: got 'task.network.width'; it is not in the config" in rows["searched-values"].text


def test_a_dataset_that_is_missing_is_drawn_small_and_left_nowhere(tmp_path, capsys):
    uri = tmp_path / "missing"
    assert main([*TOY, f"data.uri={uri}", "simulator.train=100000", "--only", "dataset"]) == 0
    shown = capsys.readouterr().out
    assert f"{uri} does not exist yet: a small dataset stands in for it" in shown
    assert "1024 train, 128 val, 64 test" in shown and not uri.exists()


def test_the_configuration_says_where_each_value_came_from(toy, tmp_path, capsys):
    best = tmp_path / "best.yaml"
    overrides = ["task=toy", "space=toy", "task.width=64", "optimizer.lr=0.01", "training.epochs=9"]
    best.write_text(yaml.safe_dump({"config_dirs": ["tests/configs"], "overrides": overrides}))
    assert main(["--from", str(best), "optimizer.lr=0.02", "--only", "config"]) == 0
    lines = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()[1:]]
    found = {path: (value, source) for path, value, source in lines}
    assert found["optimizer.lr"] == ("0.02", "command line")
    assert found["task.width"] == ("64", str(best))
    assert found["task.scale"][1].endswith("tests/configs/task/toy.yaml")
    assert found["optimizer.beta1"] == ("0.9", "ristune's default, configs/optimizer/adamw.yaml")
    assert found["seed"] == ("0", "ristune's default, configs/config.yaml")
    assert found["training.objective"] == (
        "mse",
        "ristune's default, configs/training/default.yaml, from ${task.objective}",
    )
    value, source = found["space.task.width"]
    assert value == "{'choices': [4, 16, 64]}" and source.endswith("tests/configs/space/toy.yaml")


def test_the_configuration_says_which_space_the_command_line_gave(toy, capsys):
    entries = ["space.task.width={choices:[4,8]}", "space.optimizer.beta2={low:0.9,high:0.99}"]
    whole = ["space={task.width:{choices:[4,8]}}"]
    for more, command_line, file in (
        (entries, {"space.task.width", "space.optimizer.beta2"}, {"space.optimizer.lr"}),
        (whole, {"space.task.width"}, set()),
        ([*whole, "space=toy"], set(), {"space.task.width", "space.optimizer.lr"}),
    ):
        assert main([*toy(), *more, "--only", "config"]) == 0
        lines = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()[1:]]
        found = {path: source for path, *_, source in lines if path.startswith("space.")}
        assert {path for path, source in found.items() if source == "command line"} == command_line
        assert {path for path, source in found.items() if source.endswith("space/toy.yaml")} == file


@pytest.mark.parametrize(
    "more",
    [
        ("training.accumulate=3", "training.average=ema"),
        ("training.average=swa", "optimizer.schedule=one_cycle"),
        ("optimizer.schedule=plateau", "training.curriculum=[{from: 5, set: {task.scale: 2.0}}]"),
        ("training.curriculum=[{from: 2, set: {data.filter: {target: [1.5, null]}}}, {from: 3}]",),
    ],
)
def test_what_the_trainer_can_do_passes(toy, capsys, more):
    rows = doctor(capsys, toy(*more), leave_out={"objective"})
    assert {name: row for name, row in rows.items() if row.verdict != "pass"} == {}


@pytest.mark.parametrize("more", [("--only", "steps"), ("--from", "best.yaml")])
def test_what_a_replay_has_no_use_for_is_refused(toy, tmp_path, capsys, more):
    arguments = [text for text in toy() if text not in ("--config-dir", "tests/configs")]
    assert f"{more[0]}: got" in refused(capsys, [*arguments, "--replay", str(tmp_path), *more])
