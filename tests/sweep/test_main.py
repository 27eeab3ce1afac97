import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ristune.sweep.__main__ import main
from tests.sweep.conftest import CONFIGS

ROOT = Path(__file__).parents[2]
# Ends with the command's status, or with 99 if Ray was imported on the way.
WITHOUT_RAY = (
    "import sys; from ristune.sweep.__main__ import main; code = main(sys.argv[1:]);"
    "sys.exit(99 if 'ray' in sys.modules else code)"
)


@pytest.fixture
def command(dataset: Path, tmp_path: Path) -> list[str]:
    return [
        *("task=toy", "space=toy", "--config-dir", str(CONFIGS), "tracking.mode=disabled"),
        *(f"data.uri={dataset}", f"output={tmp_path / 'runs'}", "training.epochs=3"),
    ]


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, *argv], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--name", "a/b"], "--name: got 'a/b'"),
        (["--name", ".hidden"], "--name: got '.hidden'"),
        (
            ["output=file:///runs"],
            "output: got 'file:///runs'; it is a folder, or s3:// or gs:// with a bucket",
        ),
        (["sweep.grace=4"], "sweep.grace: got 4; it must be at most training.epochs (3)"),
        (["optimizer.learning_rate=0.1"], "did you mean"),
        (["space=unheard-of"], "space: got 'unheard-of'; it must be one of "),
        (["sweep.reduction=1"], "sweep.reduction: got 1"),
        (["sweep.max_retries=-1"], "sweep.max_retries: got -1; it must be 0 or more"),
        (["sweep.max_failed_share=0"], "sweep.max_failed_share: got 0.0; it must be in (0, 1]"),
        (
            ["training.objective=accuracy"],
            "training.objective: got 'accuracy'; a sweep minimises the task's own objective (mse)",
        ),
        (["sweep.cpus_per_trial=4096"], "sweep.cpus_per_trial: got 4096"),
        (
            ["sweep.gpu_per_trial=2"],
            "got 2.0; it must be in (0, 1]: a trial trains on one GPU, or shares one",
        ),
        (["sweep.resource=data", "data.fraction=0.5"], "data.fraction: got 0.5; it is what a trial is given"),
    ],
)
def test_bad_input_ends_with_a_message_and_nothing_written(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main([*command, *more]) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize("trials", ["0", "-3", "many", "1.5"])
def test_fewer_than_one_trial_is_refused(
    command: list[str], capsys: pytest.CaptureFixture[str], trials: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, f"--trials={trials}"])
    assert exit_.value.code == 2
    assert f"got '{trials}'; it must be an integer of at least 1" in capsys.readouterr().err


def test_an_unknown_path_in_the_space_is_known_before_ray_starts(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine" / "space").mkdir(parents=True)
    (tmp_path / "mine" / "space" / "bad.yaml").write_text("optimizer.lrr: {low: 0.1, high: 0.2}\n")
    done = run([*command, "--config-dir", str(tmp_path / "mine"), "space=bad"])
    assert done.returncode == 2
    assert done.stderr == (
        "error: space: got 'optimizer.lrr'; it is not in the config; did you mean 'optimizer.lr'?\n"
    )
    assert not (tmp_path / "runs").exists()


def test_a_name_that_is_taken_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    assert main([*command, "--name", "taken"]) == 2
    assert "taken exists already; choose another name" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*command, f"output={tmp_path / 'file'}"]) == 2
    assert "it must be a folder that can be written" in capsys.readouterr().err


def test_a_dry_run_shows_everything_and_touches_nothing(command: list[str], tmp_path: Path) -> None:
    argv = [*command, f"data.uri={tmp_path / 'none'}", "--trials", "7", "--name", "x", "--dry-run"]
    done = run(argv)
    assert done.returncode == 0, done.stderr
    for text in (
        "epochs: 3",
        "optimizer.lr",
        "number from 0.0001 to 0.1, log",
        "7 trials",
        "at once",
        "  lr=",
    ):
        assert text in done.stdout
    assert not list(tmp_path.iterdir())


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "python -m ristune.sweep --trials 20" in text
    assert "summary.json" in text


def test_options_may_come_last(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep.seed=3", *command, "--dry-run", "sweep.sampler=random", "--trials", "2"]) == 0
    assert "first trials (random, seed 3):" in capsys.readouterr().out


CONDITIONS = (
    "space={optimizer.schedule:{choices:[cosine,plateau]},task.width:{choices:[4,16]},"
    "optimizer.plateau_factor:{low:0.1,high:0.5,when:{optimizer.schedule:plateau}}}"
)


def test_a_dry_run_shows_conditions_constraints_and_points_that_satisfy_them(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = "task.width <= 4 or optimizer.schedule == 'plateau'"
    more = [CONDITIONS, 'space.constraints=["' + text + '"]', "--dry-run", "sweep.startup_trials=5"]
    assert main([*command, *more]) == 0
    shown = capsys.readouterr().out
    assert "constraint: " + text in shown
    (row,) = [line for line in shown.splitlines() if "number from 0.1 to 0.5" in line]
    assert "optimizer.schedule is" in row
    first = shown.partition("first trials")[2].splitlines()[1:]
    assert len(first) == 5
    for line in first:
        assert ("plateau_factor=" in line) == ("schedule=plateau" in line)
        assert "width=4" in line or "schedule=plateau" in line


def test_an_inline_space_that_is_refused_starts_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "space.constraints=['task.width < 4']"]) == 2
    assert "0 of 1000 random points satisfy it" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
