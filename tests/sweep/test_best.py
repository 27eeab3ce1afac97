import shlex
from pathlib import Path

import pytest
import yaml

from ristune.sweep import results
from ristune.sweep.__main__ import main
from tests.sweep.events import asked, reported, told
from tests.sweep.folders import folder, leave_checkpoint, some_trials, write


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return folder(tmp_path / "wide", *some_trials())


def best(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["best", *argv]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["best", *argv]) == 2
    return capsys.readouterr().err


def test_the_winner_is_shown_whole(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(wide, [reported("0001", 2, 0.1 + 0.2 - 0.1)])
    checkpoint = leave_checkpoint(wide, "0001")
    results.write_tables(wide, results.load(wide))
    lines = best(capsys, str(wide)).splitlines()
    assert "objective: 0.20000000000000004 at epoch 2" in lines
    assert "validation: mse 0.2" in lines
    assert "  optimizer.lr: 0.2" in lines and "  task.width: 4" in lines
    assert f"checkpoint: {checkpoint}" in lines
    assert lines[-1] == f"python -m ristune.train --from {wide / 'best.yaml'} training.epochs=36"


def test_while_the_file_is_of_another_trial_its_own_is_made(
    wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.write_tables(wide, results.load(wide))
    write(wide, [asked("0003"), reported("0003", 1, 0.125)])
    lines = best(capsys, str(wide)).splitlines()
    assert "checkpoint: none" in lines
    assert lines[-2:] == [
        f"python -m ristune.sweep best {wide} --trial 0003 --yaml > 0003.yaml",
        "python -m ristune.train --from 0003.yaml training.epochs=36",
    ]


def test_the_commands_that_are_shown_work(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, train = best(capsys, str(wide), "--trial", "0002").splitlines()[-2:]
    words = shlex.split(make)
    made = best(capsys, *words[words.index("best") + 1 : words.index(">")])
    assert yaml.safe_load(made)["overrides"][-2:] == ["optimizer.lr=0.30000000000000004", "task.width=4"]
    assert train in made


def test_any_trial_can_be_had_as_yaml(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = results.load(wide)
    assert best(capsys, str(wide), "--yaml") == results.best_yaml(history, history.trials["0001"])
    assert "optimizer.lr=0.1" in best(capsys, str(wide), "--yaml", "--trial", "0")
    failed = [told("0001", "failed", reason="planted")]
    write(wide, failed)
    assert "reason: planted" in best(capsys, str(wide), "--trial", "0001")
    assert "task.width=4" in best(capsys, str(wide), "--trial", "0001", "--yaml")


def test_a_table_ranks_those_that_can_win(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        wide, [asked("0003"), told("0003", "failed"), asked("0004"), reported("0004", 1, 1e6, best_epoch=0)]
    )
    rows = [line.split() for line in best(capsys, str(wide), "--top", "10").splitlines()]
    assert [row[0] for row in rows[1:4]] == ["0001", "0000", "0002"]
    assert rows[1] == ["0001", "0.25", "1", "1", "interrupted", "lr=0.2", "width=4"]
    assert " ".join(rows[4]) == "2 of 5 trials have no finite validation, or failed"
    assert len(best(capsys, str(wide), "--top", "1").splitlines()) == 3


def test_what_cannot_be_shown_is_refused(
    tmp_path: Path, wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--trial: got '12'; it must be one of its 3 trials" in refused(capsys, str(wide), "--trial", "12")
    assert "--yaml: got '--top 3'" in refused(capsys, str(wide), "--top", "3", "--yaml")
    none = folder(tmp_path / "none", asked("0000"))
    assert "none of its 1 trials has one" in refused(capsys, str(none))
    with pytest.raises(SystemExit) as exit_:
        main(["best", str(wide), "--top", "0"])
    assert exit_.value.code == 2
