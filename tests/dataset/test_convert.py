"""The way from and to other formats, as commands."""

import pytest

from ristune import train
from ristune.data.dataset import open_dataset
from ristune.dataset import convert, export, verify
from tests.conftest import TOY


def test_files_of_other_tools_become_a_dataset_that_verifies(foreign, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert convert.main([foreign, out, "--seed", "4"]) == 0
    shown = capsys.readouterr().out
    assert "was written by other tools" in shown and "rows are put in random order" in shown
    assert f"{out}: 64 train, 32 val, 32 test" in shown
    assert f"check it: python -m ristune.dataset verify {out}" in shown
    assert verify.main([out, *TOY]) == 0
    assert open_dataset(out).manifest.generator.seed == 4


def test_an_export_says_its_size_and_converts_back_to_the_same_dataset(toy_dataset, tmp_path, capsys):
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    assert export.main(["--interoperable", toy_dataset, out]) == 0
    assert " of the original" in capsys.readouterr().out
    assert convert.main([out, back]) == 0
    assert "rows keep their order" in capsys.readouterr().out
    assert open_dataset(back).dataset_id == open_dataset(toy_dataset).dataset_id


def test_a_training_runs_on_files_of_other_tools_and_says_so_once(foreign, tmp_path, capsys):
    more = [f"data.uri={foreign}", "training.epochs=1", "--out", str(tmp_path / "run")]
    assert train.main([*TOY, *more]) == 0
    assert capsys.readouterr().out.count("was written by other tools") == 1


@pytest.mark.parametrize(
    ("command", "arguments", "rule"),
    [
        (convert, ["{toy}", "{new}"], "it is a dataset of ristune's own format already"),
        (convert, ["{foreign}", "{new}", "--memory", "0"], "--memory: got 0.0; a number of GB above 0"),
        (convert, ["{foreign}", "{new}", "--seed", "-1"], "--seed: got -1; a seed is at least 0"),
        (convert, ["{foreign}", "{foreign}"], "a new or empty directory is required"),
        (export, ["--interoperable", "{toy}", "{toy}"], "a new or empty directory is required"),
        (export, ["--interoperable", "{new}", "{new}"], "a dataset is a directory that holds manifest.json"),
    ],
)
def test_bad_input_is_refused(foreign, toy_dataset, tmp_path, capsys, command, arguments, rule):
    places = {"toy": toy_dataset, "foreign": foreign, "new": str(tmp_path / "new")}
    assert command.main([text.format(**places) for text in arguments]) == 2
    assert rule in capsys.readouterr().err
