import re
import subprocess
from pathlib import Path

import pytest

from ristune.sweep.__main__ import main
from ristune.sweep.journal import FILE
from tests.sweep.events import asked, reported, told
from tests.sweep.folders import drive, ended, folder, some_trials


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[list[str]]:
    """The cells of each line."""
    assert main(["list", *argv]) == 0
    return [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]


def test_every_sweep_has_a_line_and_the_newest_is_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "old", *some_trials(), ended(time=160.0), time=100.0)
    trial = [asked("0000"), reported("0000", 1, 1.0), told("0000", "complete", 90500.0)]
    folder(tmp_path / "new", *trial, time=90000.0)
    (tmp_path / "training").mkdir()
    titles, first, second = listed(capsys, str(tmp_path))
    assert titles == ["name", "state", "trials", "best", "task", "started", "ran for"]
    assert first[:5] == ["new", "killed", "1/6", "1", "toy"] and first[-1] == "0:08:20"
    assert second[:5] == ["old", "finished", "2/6", "0.25", "toy"] and second[-1] == "0:01:00"


def test_a_sweep_that_runs_is_listed_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "wide", *some_trials())
    process: subprocess.Popen[str] = drive(tmp_path / "wide")
    assert listed(capsys, str(tmp_path))[1][:2] == ["wide", "running"]
    process.kill()
    process.communicate()


def test_a_damaged_journal_is_listed_with_its_error_and_harms_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "well", *some_trials())
    bad = folder(tmp_path / "damaged-sweep", *some_trials())
    lines = (bad / "journal" / FILE).read_text().splitlines(keepends=True)
    (bad / "journal" / FILE).write_text("".join([lines[0], "{\n", *lines[1:]]))
    (tmp_path / "empty" / "journal").mkdir(parents=True)
    (tmp_path / "empty" / "journal" / FILE).touch()
    shown = {line[0]: line[1:] for line in listed(capsys, str(tmp_path))}
    assert set(shown) == {"name", "well", "damaged-sweep", "empty"}
    assert shown["well"][0] == "killed"
    [error] = shown["damaged-sweep"]
    assert error.startswith("damaged: ") and "got 'line 2'; every line must be an event" in error
    assert shown["empty"][:2] == ["killed", "-"]


def test_a_folder_without_sweeps_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "no sweep in runs\n"
    assert main(["list", "nowhere"]) == 2
    assert "DIR: got 'nowhere'; it must be a folder with sweeps" in capsys.readouterr().err
