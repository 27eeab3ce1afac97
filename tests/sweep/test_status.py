import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ristune.config import compose
from ristune.sweep import results
from ristune.sweep.__main__ import main
from ristune.sweep.finding import RUNS
from ristune.sweep.journal import FILE
from ristune.sweep.standing import Phase, Standing, facts
from tests.sweep.events import asked, reported, resumed, started, told
from tests.sweep.folders import ROOT, drive, ended, folder, some_trials, write

HEAVY = ("ray", "torch", "optuna", "hydra", "pyarrow", "wandb")
LIGHT = (
    "import sys; from ristune.sweep.__main__ import main; code = main(sys.argv[1:]);"
    f"heavy = [name for name in {HEAVY} if name in sys.modules];"
    "print(heavy, file=sys.stderr); sys.exit(code)"
)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A sweep that was killed, as nobody runs it and its journal does not end."""
    return folder(tmp_path / "runs" / "wide", *some_trials())


@pytest.fixture
def driver(wide: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs it."""
    process = drive(wide)
    yield process
    process.kill()
    process.communicate()


def status(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["status", *argv]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_sweep_that_runs_says_who_runs_it(
    wide: Path, driver: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = status(capsys, str(wide))
    assert text.startswith(f"wide: running by process {driver.pid} on {os.uname().nodename}\n")
    assert "task toy" in text
    assert "2 of 6 ended: 1 complete, 1 stopped, 1 running" in text
    assert "0.25 at epoch 1, trial 0001" in text
    assert "epoch 1: 3 arrived, 2 went on" in text and "epoch 3: 1 arrived, 1 went on" in text
    assert "0001   running    1/9       0.25       1000  lr=0.2 width=4" in text
    assert "--resume" not in text


def test_the_lock_is_left_alone(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in (wide / "journal").iterdir())
    status(capsys, str(wide))
    assert sorted(path.name for path in (wide / "journal").iterdir()) == before == [FILE]


def test_a_driver_that_was_killed_is_found_out(
    wide: Path, driver: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert Standing(wide).phase is Phase.RUNNING
    driver.kill()
    driver.wait()
    text = status(capsys, str(wide))
    assert text.startswith(f"wide: killed: process {driver.pid} on ")
    assert "1 interrupted" in text and "running" not in text.splitlines()[3]
    assert text.endswith(f"go on with it:\npython -m ristune.sweep --resume {wide}\n")


def test_another_process_with_the_drivers_id_is_not_taken_for_it(wide: Path) -> None:
    (wide / "journal" / "lock").write_text(f"process {os.getpid()} on {os.uname().nodename}\n")
    assert Standing(wide).phase is Phase.KILLED


def test_of_a_driver_on_another_machine_the_last_event_is_told(
    wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (wide / "journal" / "lock").write_text("process 12 on elsewhere\n")
    text = status(capsys, str(wide))
    assert text.startswith("wide: running by process 12 on elsewhere, which last wrote 1970-01-01")


@pytest.mark.parametrize("outcome", ["finished", "interrupted", "broken"])
def test_an_end_is_told_with_its_reason(wide: Path, capsys: pytest.CaptureFixture[str], outcome: str) -> None:
    write(wide, [told("0001", "complete"), ended(outcome, reason="SIGINT")])
    text = status(capsys, str(wide))
    assert text.startswith(f"wide: {outcome} ") and text.splitlines()[0].endswith(": SIGINT")
    assert f"--resume {wide}" in text.splitlines()[-1]


def test_a_sweep_all_of_whose_trials_have_ended_can_be_extended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = folder(tmp_path / "one", asked("0000"), told("0000", "complete"), ended(), requested=1)
    assert status(capsys, str(one)).splitlines()[-1] == f"python -m ristune.sweep --resume {one} --trials 2"


def test_a_last_line_that_is_being_written_is_left_out(
    wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (wide / "journal" / FILE).open("a") as file:
        file.write('{"event": "told", "time": 130.0, "trial": "0001", "sta')
    assert "1 interrupted" in status(capsys, str(wide))


def test_news_are_each_read_once_and_whole(wide: Path, driver: subprocess.Popen[str]) -> None:
    sweep = Standing(wide)
    line = json.dumps(told("0001", "complete", 120.0)) + "\n"
    with (wide / "journal" / FILE).open("a") as file:
        file.write(line[:20])
        file.flush()
        assert sweep.news() == []
        file.write(line[20:])
    assert [event["event"] for event in sweep.news()] == ["told"]
    assert sweep.news() == []
    assert sweep.history == results.load(wide)


def test_a_damaged_line_is_refused_by_its_number_also_among_the_news(
    wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Standing(wide)
    lines = len((wide / "journal" / FILE).read_text().splitlines())
    write(wide, [asked("0003"), started("0009")])
    with pytest.raises(ValueError, match=f"line {lines + 2}'; it must go with the events before it"):
        sweep.news()
    assert f"line {lines + 2}" in refused(capsys, "status", str(wide))


def test_json_is_the_summary_and_how_it_stands(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(wide, [ended("interrupted", time=200.0)])
    known = json.loads(status(capsys, str(wide), "--json"))
    summary = results.summary(Standing(wide).history)
    assert {key: known[key] for key in summary} == summary | {"gpu_hours": known["gpu_hours"]}
    assert known["state"] == "interrupted" and known["elapsed"] == 100.0 and known["eta"] is None
    assert known["rungs"] == [
        {"epoch": 1, "reached": 3, "went_on": 2},
        {"epoch": 3, "reached": 1, "went_on": 1},
    ]
    assert known["trials_per_hour"] == pytest.approx(2 * 36)
    assert known["resume"] == f"python -m ristune.sweep --resume {wide}"


def test_gpu_hours_count_trials_that_run(wide: Path, driver: subprocess.Popen[str]) -> None:
    known = facts(Standing(wide), 102.0 + 3600)
    # Two trials of eight seconds and one of an hour, each on half a GPU.
    assert known["gpu_hours"] == pytest.approx(0.5 * (2 * 8 + 3600) / 3600)
    assert known["running"][0]["trial"] == "0001"


def test_a_trial_that_a_killed_driver_left_holds_nothing_any_more(wide: Path) -> None:
    assert facts(Standing(wide), 1e9)["gpu_hours"] == pytest.approx(0.5 * 3 * 8 / 3600)


def test_a_sweep_that_goes_on_after_an_interruption_runs(wide: Path, driver: subprocess.Popen[str]) -> None:
    write(wide, [ended("interrupted"), resumed(300.0), started("0001", 301.0)])
    sweep = Standing(wide)
    assert sweep.phase is Phase.RUNNING
    assert facts(sweep, 310.0)["trials"]["running"] == 1


def test_a_journal_without_an_event_is_of_a_sweep_that_starts_or_was_killed_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new" / "journal").mkdir(parents=True)
    (tmp_path / "new" / "journal" / FILE).touch()
    assert status(capsys, str(tmp_path / "new")).startswith("new: killed: no process runs it")
    process = drive(tmp_path / "new")
    assert status(capsys, str(tmp_path / "new")).startswith(f"new: starting by process {process.pid}")
    known = json.loads(status(capsys, str(tmp_path / "new"), "--json"))
    assert known == {"name": "new", "state": "starting"}
    process.kill()
    process.communicate()


def test_failures_and_warnings_are_told(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warned = {"event": "warned", "time": 112.0, "trial": None, "text": "the tracker is down"}
    write(wide, [warned, told("0001", "failed", reason="RuntimeError: planted")])
    text = status(capsys, str(wide))
    assert "failures  1 x failed: RuntimeError: planted" in text
    assert "warnings  the tracker is down" in text


def test_a_name_is_looked_for_in_runs(
    wide: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(wide.parents[1])
    assert status(capsys, "wide") == status(capsys, "runs/wide")
    monkeypatch.chdir(wide)
    assert status(capsys, ".").startswith("wide: killed")
    assert str(RUNS) == compose().output


def test_a_sweep_that_is_not_there_is_refused_with_names_that_come_near(
    wide: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(wide.parents[1])
    error = refused(capsys, "status", "wied")
    assert "got 'wied'" in error and "did you mean runs/wide?" in error
    assert "`python -m ristune.sweep list` names all" in error
    assert f"list {wide.parent}`" in refused(capsys, "best", str(wide.parent / "none"))
    assert "which sweep is meant" in refused(capsys, "status")
    (wide.parent / "training").mkdir()
    assert "runs/training has no journal/events.jsonl" in refused(capsys, "status", "training")


def test_a_word_that_is_no_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["statsu", "wide"]) == 2
    error = capsys.readouterr().err
    assert "got 'statsu'; it must be one of status, list, best" in error


@pytest.mark.parametrize("word", ["status", "list", "best"])
def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str], word: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([word, "--help"])
    assert exit_.value.code == 0
    assert f"  python -m ristune.sweep {word}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"  python -m ristune.sweep {word}" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["status wide", "status wide --json", "list", "best wide"])
def test_nothing_heavy_is_loaded(wide: Path, words: str) -> None:
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *words.split()],
        cwd=wide.parents[1],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def follow(wide: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "ristune.sweep", "status", str(wide), "--follow"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("wide: running")
    assert process.stdout.readline().startswith("status finished=2/6 running=1")
    return process


def test_a_sweep_is_followed_to_its_end(wide: Path, driver: subprocess.Popen[str]) -> None:
    process = follow(wide)
    now = time.time()
    write(wide, [reported("0001", 2, 0.125), told("0001", "complete", now), ended(time=now)])
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "trial=0001 complete epoch=2 objective=0.125 best=0.125" in out
    assert "sweep finished" in out
    assert "0.125 at epoch 2, trial 0001" in out


def test_following_ends_with_a_driver_that_is_killed(wide: Path, driver: subprocess.Popen[str]) -> None:
    process = follow(wide)
    driver.kill()
    driver.wait()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and "wide: killed: process" in out


def test_ctrl_c_leaves_the_sweep_alone(wide: Path, driver: subprocess.Popen[str]) -> None:
    process = follow(wide)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "wide goes on; it is only shown no more\n")
    assert driver.poll() is None and Standing(wide).phase is Phase.RUNNING


def test_a_pipe_that_is_closed_is_no_error(wide: Path) -> None:
    command = f"{sys.executable} -m ristune.sweep status {wide} | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
