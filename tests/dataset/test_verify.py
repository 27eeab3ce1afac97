import pytest

from ristune.dataset import verify
from tests import toy
from tests.conftest import TOY


def test_a_sound_dataset_ends_with_status_0(toy_dataset, capsys):
    assert verify.main([toy_dataset, *TOY]) == 0
    shown = capsys.readouterr().out
    assert "not checked by a task: ToyTask has no check_sample" in shown
    assert shown.endswith(f"{toy_dataset}: sound\n")


def test_all_faults_are_printed_one_a_line_and_end_with_status_1(damaged, capsys):
    assert verify.main([str(damaged), *TOY]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("notes.txt: the manifest does not know it") for line in lines)
    assert any(line.startswith("val/00000.parquet, row group 0, column 'target': its by") for line in lines)
    assert lines[-1] == f"{damaged}: 3 faults"


@pytest.mark.parametrize("splits", [[], ["val"], ["train", "val"]])
def test_the_task_looks_at_the_first_rows_of_every_split(toy_dataset, capsys, monkeypatch, splits):
    seen = []

    def check(self, batch):
        name = ["train", "val", "test"][len(seen)]
        seen.append({column: tuple(tensor.shape) for column, tensor in batch.items()})
        return ["row 3 has another target", "row 5 too"] if name in splits else []

    monkeypatch.setattr(toy.ToyTask, "check_sample", check, raising=False)
    assert verify.main([toy_dataset, *TOY, "--samples", "10"]) == bool(splits)
    assert seen == [{"x": (10, 2), "target": (10,), "sample_id": (10,)}] * 3
    lines = capsys.readouterr().out.splitlines()
    for split in ("train", "val", "test"):
        assert (f"{split}: row 3 has another target" in lines) == (split in splits)
    assert lines[-1] == f"{toy_dataset}: " + (f"{2 * len(splits)} faults" if splits else "sound")


def test_the_task_can_be_left_out(toy_dataset, capsys, monkeypatch):
    monkeypatch.setattr(toy.ToyTask, "check_sample", lambda self, batch: 1 / 0, raising=False)
    assert verify.main([toy_dataset, *TOY, "--no-task-check"]) == 0
    assert "task" not in capsys.readouterr().out


def test_the_default_task_does_not_judge_a_dataset_of_another(toy_dataset, capsys):
    assert verify.main([toy_dataset]) == 0
    reason = "the task is 'nearfield' and the dataset of 'toy'; task=NAME chooses another task"
    assert reason in capsys.readouterr().out


def test_a_task_that_was_asked_for_must_fit(toy_dataset, capsys):
    assert verify.main([toy_dataset, "task=nearfield"]) == 2
    assert "its surface must be the task's" in capsys.readouterr().err


def test_files_of_other_tools_have_nothing_to_be_verified_by(foreign, capsys):
    assert verify.main([foreign]) == 2
    assert f"python -m ristune.dataset convert {foreign} OUT, and verify that" in capsys.readouterr().err


def test_a_place_that_is_no_dataset_is_bad_input(tmp_path, capsys):
    assert verify.main([str(tmp_path)]) == 2
    assert "a dataset is a directory that holds manifest.json" in capsys.readouterr().err


def test_a_manifest_that_is_lost_is_a_fault(damaged, capsys):
    (damaged / "manifest.json").unlink()
    assert verify.main([str(damaged), *TOY]) == 1
    assert "manifest.json: got 'No such file or directory'" in capsys.readouterr().out


def test_the_fast_check_reads_no_file_and_claims_no_more(damaged, capsys):
    (damaged / "notes.txt").unlink()
    assert verify.main([str(damaged), "--fast"]) == 0
    assert capsys.readouterr().out == f"{damaged}: nothing wrong with names and sizes\n"
    (damaged / "val/00000.parquet").unlink()
    (damaged / "test/00000.parquet").write_bytes(b"PAR1")
    assert verify.main([str(damaged), "--fast"]) == 1
    one, other, last = capsys.readouterr().out.splitlines()
    assert one.startswith("val/00000.parquet: got 'No such file or directory'")
    assert other.startswith("test/00000.parquet: it has 4 bytes, the manifest says")
    assert last == f"{damaged}: 2 faults"
