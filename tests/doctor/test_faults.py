"""Each planted fault is found, by the checks that should find it and by no other."""

import shutil

import pytest

from ristune.data.dataset import open_dataset
from tests.doctor.altered import altered
from tests.doctor.report import doctor

# They take longest: only where a fault is planted for them.
SEARCH = {"searched-values", "objective"}


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("Sound", {}),
        (
            "Detached",
            {
                "parameters-change": "4 of 5 parameters are what they were: layers.0.weight, layers.0.bias",
                "gradients": "none at 4 of 5 parameters, 98% of the weights: layers.0.weight",
                "overfits": "so inputs are hardly used",
            },
        ),
        (
            "HalfUnused",
            {
                "parameters-change": "4 of 8 parameters are what they were: forgotten.0.weight",
                "gradients": "none at 4 of 8 parameters, 50% of the weights: forgotten.0.weight",
            },
        ),
        ("Idle", {"gradients": "none at 1 of 5 parameters, 80% of the weights: idle"}),
        ("ZeroTerm", {"loss-terms": "extra: it is 0 on every batch"}),
        ("Swallowed", {"loss-terms": "extra: it is a constant, 0, without a gradient"}),
        ("Constant", {"loss-terms": "extra: it is a constant, ", "truth": "extra: "}),
        ("Elsewhere", {"loss-terms": "extra: its gradient reaches no parameter"}),
        (
            "Eigenvector",
            {
                "steps": "steps were skipped: the gradient of layers.0.weight, layers.0.bias",
                "parameters-change": "4 of 4 parameters are what they were",
                "gradients": "not finite at 4 of 4 parameters",
                "loss-terms": "extra: its gradient is not finite",
                "truth": "extra: its gradient is not finite",
                "overfits": "less than 5%",
            },
        ),
        ("Offset", {"truth": "squared: 0.25 at the truth, 0"}),
        ("RootAtTruth", {"truth": "root: its gradient is not finite at the truth"}),
        ("Bias", {"predictions-vary": "output 0; at least 1e-06", "overfits": "so inputs are hardly used"}),
        ("Mismatched", {"overfits": "less than 5%"}),
        ("AsksGrad", {"same-code": "prepare gives other tensors in training than in validation: x"}),
        ("AsksMode", {"same-code": "prepare gives other tensors in training than in validation: extra"}),
        ("GradInForward", {"same-code": "another output with gradients on than without, by"}),
        ("Unsaved", {"saved-loaded": "mse was "}),
    ],
)
def test_a_fault_in_the_task_is_found(toy, capsys, fault, found):
    rows = doctor(capsys, toy(f"task._target_=tests.doctor.faults.{fault}"), leave_out=SEARCH)
    failed = {name: row.text for name, row in rows.items() if row.verdict == "FAIL"}
    assert set(failed) == set(found)
    for name, text in found.items():
        assert text in failed[name]


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("Sound", {}),
        ("NoEffect", {"searched-values": "1 of 2 paths: task.scale: 0.5 and 2.0 give the same trial"}),
        ("Weighted", {"objective": "mse of one and the same output: task.scale: "}),
    ],
)
def test_a_fault_in_the_search_is_found(toy, capsys, fault, found):
    arguments = toy("space=scale", f"task._target_=tests.doctor.faults.{fault}")
    rows = doctor(capsys, arguments, only=SEARCH)
    assert {name for name, row in rows.items() if row.verdict == "FAIL"} == set(found)
    for name, text in found.items():
        assert text in rows[name].text


def test_a_searched_value_that_a_stage_replaces_from_the_first_epoch_on_is_found(toy, capsys):
    stages = "training.curriculum=[{from: 1, set: {task.scale: 2.0}}]"
    row = doctor(capsys, toy("space=scale", stages), only={"searched-values"})["searched-values"]
    assert row.verdict == "FAIL" and "1 of 2 paths: task.scale: 0.5 and 2.0" in row.text


def test_a_value_that_counts_under_another_choice_only_is_no_fault(toy, capsys):
    arguments = toy("space=conditional", "task._target_=tests.doctor.faults.Conditional")
    row = doctor(capsys, arguments, only={"searched-values"})["searched-values"]
    assert row.verdict == "pass" and "2 paths; " in row.text
    assert "not to be seen in so short a trial: optimizer.plateau_factor" in row.text


WHEN = "space={task.explode:{choices:[true,false]},task.scale:{low:0.5,high:2.0,when:{task.explode:%s}}}"


@pytest.mark.parametrize(("explode", "verdict"), [("true", "pass"), ("false", "FAIL")])
def test_a_conditional_value_is_tried_where_it_is_active(toy, capsys, explode, verdict):
    """`scale` counts only where `explode` is chosen; `explode` itself then counts by its own effect alone."""
    arguments = toy(WHEN % explode, "task._target_=tests.doctor.faults.Conditional", "task.scale=3.0")
    row = doctor(capsys, arguments, only={"searched-values"})["searched-values"]
    assert row.verdict == verdict
    if verdict == "FAIL":
        assert "1 of 2 paths: task.scale: 0.5 and 2.0 give the same trial" in row.text


def test_a_choice_that_only_switches_others_on_is_found(toy, capsys):
    """That a value of its own is searched with it is no effect of the choice."""
    space = "space={task.fail:{choices:[true,false]},task.scale:{low:0.5,high:2.0,when:{task.fail:true}}}"
    arguments = toy(space, "task._target_=tests.doctor.faults.Patient")
    row = doctor(capsys, arguments, only={"searched-values"})["searched-values"]
    assert row.verdict == "FAIL" and "1 of 2 paths: task.fail: True and False" in row.text


def test_a_value_is_tried_where_the_constraints_hold(toy, capsys):
    """At the middle of the space the task raises; at a point that satisfies the constraint it does not."""
    space = "space={task.width:{choices:[4,16]},task.scale:{low:0.5,high:2.0}}"
    arguments = toy(space, "task._target_=tests.doctor.faults.Bounded", "task.width=4")
    row = doctor(capsys, arguments, only={"searched-values"})["searched-values"]
    assert row.verdict == "FAIL" and "too much" in row.text
    constrained = [*arguments, "space.constraints=['task.width * task.scale <= 10']"]
    row = doctor(capsys, constrained, only={"searched-values"})["searched-values"]
    assert row.verdict == "pass" and "2 paths" in row.text


def test_steps_that_barely_move_the_network_are_found(toy, capsys):
    rows = doctor(capsys, toy("optimizer.lr=1e-7"), only={"parameters-change", "overfits"})
    assert "less than 1e-05" in rows["parameters-change"].text
    assert "less than 5%" in rows["overfits"].text


def test_a_step_that_is_skipped_now_and_then_is_found(toy, capsys):
    rows = doctor(capsys, toy("task._target_=tests.doctor.faults.RareSkip"), only={"steps"})
    assert "8 windows, 7 steps, 1 skipped: loss term 'squared' is inf" in rows["steps"].text


def test_a_loss_weight_in_the_objective_is_found_though_nobody_searches_it(toy, capsys):
    rows = doctor(capsys, toy("task._target_=tests.doctor.faults.Weighted"), only={"objective"})
    assert rows["objective"].verdict == "FAIL" and "task.scale" in rows["objective"].text


def test_a_loss_that_is_not_finite_is_found(toy, capsys):
    rows = doctor(capsys, toy("task.explode=true"), only={"steps", "loss-terms"})
    assert "steps were skipped: loss term 'squared' is inf" in rows["steps"].text
    assert "squared: its value is inf" in rows["loss-terms"].text


def test_values_that_are_not_finite_are_found(toy, toy_dataset, tmp_path, capsys):
    def change(arrays):
        arrays["x"][5, 1] = float("nan")

    uri = altered(toy_dataset, tmp_path / "nan", "train", change)
    rows = doctor(capsys, toy(f"data.uri={uri}"), only={"dataset", "splits", "steps"})
    assert "not finite: 1 of 'x' in train/" in rows["dataset"].text
    assert rows["splits"].verdict == "pass"
    assert "2 skipped; NaN or infinity in the columns x" in rows["steps"].text


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (("x", "target", "sample_id"), "8 ids of val (64 compared) are in train too"),
        (("x", "target"), "8 of 64 rows of val are, but for their id, among 128 of train"),
    ],
)
def test_rows_of_train_in_val_are_found(toy, toy_dataset, tmp_path, capsys, columns, text):
    source = open_dataset(toy_dataset).split("train")

    def change(arrays):
        for name in columns:
            arrays[name][:8] = source[name][:8].numpy()

    uri = altered(toy_dataset, tmp_path / "leaking", "val", change)
    rows = doctor(capsys, toy(f"data.uri={uri}"), only={"dataset", "splits"})
    assert rows["dataset"].verdict == "pass" and rows["splits"].verdict == "FAIL"
    assert text in rows["splits"].text


def test_an_id_that_occurs_twice_in_a_split_is_found(toy, toy_dataset, tmp_path, capsys):
    def change(arrays):
        arrays["sample_id"][3] = arrays["sample_id"][4]

    uri = altered(toy_dataset, tmp_path / "twice", "val", change)
    rows = doctor(capsys, toy(f"data.uri={uri}"), only={"splits"})
    assert "1 ids occur twice in val" in rows["splits"].text


def test_a_byte_that_was_flipped_is_found_and_nothing_else_runs_on_it(toy, toy_dataset, tmp_path, capsys):
    root = tmp_path / "flipped"
    shutil.copytree(toy_dataset, root)
    shard = open_dataset(str(root)).manifest.splits["val"].shards[0]
    chunk = shard.row_groups[0].columns["target"]
    data = bytearray((root / shard.path).read_bytes())
    data[chunk.offset + chunk.length - 1] ^= 1
    (root / shard.path).write_bytes(data)
    more = [f"data.uri={root}", f"data.cache={tmp_path / 'cache'}"]
    rows = doctor(capsys, toy(*more), only={"dataset", "steps", "gradients"})
    assert "not those that the manifest gives the CRC of" in rows["dataset"].text
    assert rows["steps"].verdict == "FAIL" and shard.path in rows["steps"].text
    assert (
        rows["gradients"].verdict == "skip" and "the short training, which failed" in rows["gradients"].text
    )


def test_an_exception_of_the_task_is_a_row_with_its_line_and_the_other_checks_run(toy, capsys):
    arguments = toy("task._target_=tests.doctor.faults.Raises")
    rows = doctor(capsys, arguments, only={"splits", "steps", "gradients", "same-code"})
    assert [row.verdict for row in rows.values()] == ["pass", "FAIL", "skip", "pass"]
    assert "RuntimeError: planted in the loss (tests/doctor/faults.py:" in rows["steps"].text
    assert 'raise RuntimeError("planted in the loss")' in rows["steps"].text
