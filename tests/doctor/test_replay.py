import re

import pytest

from ristune import train
from ristune.doctor import __main__ as doctor
from ristune.training import checkpoint, dump
from tests.doctor.altered import altered

WHERE = r"at .*diverging.py:\d+ in loss: "


def diverged(toy, tmp_path, *more):
    """A training that diverges: the folder of what it wrote down."""
    out = tmp_path / "run"
    assert train.main(toy("training.epochs=2", "training.max_skips=2", "--out", str(out), *more)) == 1
    return out / dump.FOLDER


def replayed(folder, capsys, *more):
    capsys.readouterr()
    status = doctor.main(["--replay", str(folder), *more])
    return status, capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "more", "wanted"),
    [
        (
            "Eigenvectors",
            (),
            [
                "backward: loss term 'subspace', operation LinalgEighBackward0",
                r"parameters: .*layers.0.weight",
                WHERE + r"_, vectors = torch.linalg.eigh\(covariance\)",
            ],
        ),
        (
            "Root",
            (),
            [
                "backward: loss term 'rms', operation SqrtBackward0",
                r"parameters: .*layers.2.bias",
                WHERE + r"rms = \(0 \* output\).square\(\).mean\(\).sqrt\(\)",
            ],
        ),
        (
            "MaskedLog",
            (),
            [
                "backward: loss term 'entropy', operation LogBackward0",
                r"parameters: .*layers.0.bias",
                WHERE + r"entropy = torch.where\(shares > 0, shares.log\(\), 0\).mean\(\)",
            ],
        ),
        (
            "Overflow",
            ("training.precision=fp16",),
            ["forward: .*operation aten.mul.*, module layers.2", "fp16 overflow", "bf16 or fp32"],
        ),
    ],
)
def test_a_planted_fault_is_named_by_term_operation_and_parameter(toy, tmp_path, capsys, task, more, wanted):
    folder = diverged(toy, tmp_path, f"task._target_=tests.doctor.diverging.{task}", *more)
    status, said = replayed(folder, capsys)
    assert status == 0
    for pattern in wanted:
        assert re.search(pattern, said), said
    # The sound term beside it is not blamed; an overflow has no other.
    assert ("loss term 'squared'" in said) == (task == "Overflow")


def test_a_column_with_holes_is_named(toy, toy_dataset, tmp_path, capsys):
    def change(arrays):
        arrays["x"][::7, 1] = float("nan")

    uri = altered(toy_dataset, tmp_path / "holed", "train", change)
    out = tmp_path / "run"
    assert train.main(toy(f"data.uri={uri}", "training.max_skips=2", "--out", str(out))) == 1
    assert "column 'x' holds NaN or infinity" in capsys.readouterr().out
    status, said = replayed(out / dump.FOLDER, capsys)
    assert status == 0
    assert "1. input:" in said and "column 'x' is not finite" in said and "it reaches loss term" in said


def test_a_training_that_diverges_says_how_to_look_into_it(toy, tmp_path, capsys):
    folder = diverged(toy, tmp_path, "task._target_=tests.doctor.diverging.Root")
    assert f"what was not finite: python -m ristune.doctor --replay {folder}" in capsys.readouterr().out


def test_a_stage_of_a_curriculum_is_replayed_with_its_own_values(toy, tmp_path, capsys):
    stages = "training.curriculum=[{from: 2, set: {task.scale: 1.0e+39}}]"
    folder = diverged(toy, tmp_path, stages)
    assert checkpoint.load(folder).state["failure"]["epoch"] == 2
    status, said = replayed(folder, capsys)
    assert status == 0 and "loss term 'squared'" in said


def test_a_fault_that_is_not_there_any_more_is_told_so(toy, tmp_path, capsys):
    folder = diverged(
        toy, tmp_path, "task._target_=tests.doctor.diverging.Overflow", "training.precision=fp16"
    )
    saved = checkpoint.load(folder)
    parts = {name: saved.tensors(name) for name in (checkpoint.WEIGHTS, dump.WINDOW, dump.RANDOM)}
    failure = {**saved.state["failure"], "precision": "fp32", "scale": 1.0}
    checkpoint.write(folder, parts, {**saved.state, "failure": failure})
    status, said = replayed(folder, capsys)
    assert status == 1 and "it does not reproduce" in said


def test_what_is_no_dump_is_refused(toy, tmp_path, capsys):
    assert doctor.main(["--replay", str(tmp_path)]) == 2
    assert "it must be a folder with weights.safetensors" in capsys.readouterr().err
    out = tmp_path / "run"
    assert train.main(toy("training.epochs=1", "--out", str(out))) == 0
    capsys.readouterr()
    assert doctor.main(["--replay", str(out / "best")]) == 2
    assert "--replay: got" in capsys.readouterr().err
