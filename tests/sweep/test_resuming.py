import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.__main__ import main
from ristune.sweep.history import History
from ristune.sweep.journal import FILE, Event, Journal
from ristune.sweep.resuming import check_dataset, open_sweep, restored, trials_in_total
from tests.sweep.events import STARTED, asked, history, resumed, told

ENDED = {"event": "sweep_ended", "time": 150.0, "outcome": "finished", "reason": ""}


@pytest.fixture
def sweep(tmp_path: Path, toy: Callable[..., Config], dataset: Path) -> Path:
    """A sweep that was interrupted before its second trial ended."""
    config = toy(f"data.uri={dataset}", "training.epochs=3", "optimizer.weight_decay=0.125")
    events: list[dict[str, Any]] = [
        STARTED | {"source": config.source, "overrides": config.overrides, "config_dirs": config.config_dirs},
        asked("0000", **{"optimizer.lr": 0.1, "task.width": 4}),
        told("0000", "complete") | {"objective": 0.5, "feasible": True},
        asked("0001", **{"optimizer.lr": 0.2, "task.width": 4}),
    ]
    journal = Journal(tmp_path / "made-up" / "journal" / FILE)
    for event in events:
        journal.append(
            Event(event["event"]), **{k: v for k, v in event.items() if k not in ("event", "time")}
        )
    journal.close()
    return tmp_path / "made-up"


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    return capsys.readouterr().err


def test_what_is_no_sweep_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "it must be the folder of a sweep, or its URI; see runs/" in refused(
        capsys, "--resume", str(tmp_path)
    )
    assert not (tmp_path / "journal").exists()


def test_a_sweep_that_never_started_is_not_resumed(tmp_path: Path) -> None:
    Journal(tmp_path / "journal" / FILE).close()
    with pytest.raises(InputError, match="a sweep that has started"):
        open_sweep(tmp_path, None)


@pytest.mark.parametrize(
    "override", ["optimizer.lr=0.5", "space=quick", "training.epochs=9", "sweep.seed=1", "task.width=4"]
)
def test_what_would_make_another_sweep_of_it_is_refused(
    sweep: Path, capsys: pytest.CaptureFixture[str], override: str
) -> None:
    error = refused(capsys, "--resume", str(sweep), override)
    assert f"override: got '{override}'; a resumed sweep may be given another data.uri=" in error


@pytest.mark.parametrize("option", ["--name", "--config-dir"])
def test_a_sweep_is_resumed_under_its_own_name(
    sweep: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    error = refused(capsys, "--resume", str(sweep), option, str(sweep))
    assert f"leave out {option}, or start anew without --resume" in error


def test_the_configuration_is_that_of_the_start_but_for_what_may_differ(sweep: Path) -> None:
    journal = open_sweep(sweep, None)
    config = restored(journal.history, ["sweep.concurrency=7", "sweep.max_retries=0"])
    journal.close()
    assert (config.optimizer.weight_decay, config.training.epochs) == (0.125, 3)
    assert (config.sweep.concurrency, config.sweep.max_retries) == (7, 0)
    assert config.overrides[-2:] == ("sweep.concurrency=7", "sweep.max_retries=0")
    assert "optimizer.weight_decay=0.125" in config.overrides


def test_another_dataset_is_refused(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The made-up sweep has an id that no dataset has.
    error = refused(capsys, "--resume", str(sweep))
    assert "it must be the dataset of the sweep, id 0123, and has the id " in error
    check_dataset(history(), "0123", "anywhere")


def test_a_dry_run_says_what_goes_on(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sweep / "journal" / FILE).read_text()
    assert main(["--resume", str(sweep), "--trials", "9", "--dry-run"]) == 0
    assert "9 trials of 3 epochs" in (text := capsys.readouterr().out)
    assert text.rstrip().endswith("of these, 1 have ended and 1 go on")
    assert (sweep / "journal" / FILE).read_text() == before


def test_a_sweep_has_as_many_trials_as_were_asked_for_last() -> None:
    six = history(asked("0000"))
    assert trials_in_total(six, None) == 6
    assert trials_in_total(history(asked("0000"), resumed(requested=8)), None) == 8
    assert trials_in_total(six, 1) == 1


def test_no_trial_is_taken_away() -> None:
    with pytest.raises(InputError, match="--trials: got 1; this sweep has 2 trials already"):
        trials_in_total(history(asked("0000"), asked("0001")), 1)


@pytest.mark.parametrize("outcome", ["broken", "interrupted"])
def test_one_that_broke_when_all_trials_had_ended_may_still_be_ended(outcome: str) -> None:
    names = [f"{number:04d}" for number in range(6)]
    whole = history(*map(asked, names), *[told(name, "complete") for name in names])
    whole.apply({**ENDED, "outcome": outcome})
    assert trials_in_total(whole, None) == 6


def test_a_sweep_that_has_ended_wants_more_trials() -> None:
    names = [f"{number:04d}" for number in range(6)]
    whole: History = history(*map(asked, names), *[told(name, "complete") for name in names], ENDED)
    with pytest.raises(InputError, match="all 6 trials of this sweep have ended; give a larger number"):
        trials_in_total(whole, None)
    assert trials_in_total(whole, 7) == 7


def test_a_driver_that_was_killed_at_the_very_end_has_its_results_to_write() -> None:
    names = [f"{number:04d}" for number in range(6)]
    assert trials_in_total(history(*map(asked, names), *[told(n, "complete") for n in names]), None) == 6


def test_a_name_that_is_taken_may_be_gone_on_with(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = json.loads((sweep / "journal" / FILE).read_text().splitlines()[0])
    more = [text for text in source["overrides"] if text.startswith(("task", "space", "data", "training"))]
    folders = [text for folder in source["config_dirs"] for text in ("--config-dir", folder)]
    error = refused(capsys, *more, *folders, f"output={sweep.parent}", "--name", sweep.name)
    assert f"or go on with it: --resume {sweep}" in error


def test_a_space_of_the_command_line_goes_on_as_it_was(toy: Callable[..., Config]) -> None:
    config = toy("space={task.width:{choices:[4,8]}}", "space.optimizer.lr={low:0.1,high:0.5}")
    stored = {"source": config.source, "overrides": config.overrides, "config_dirs": config.config_dirs}
    sweep = history()
    sweep.started = json.loads(json.dumps(stored))
    again = restored(sweep, ["sweep.concurrency=2"])
    assert again.space == {"task.width": {"choices": [4, 8]}, "optimizer.lr": {"low": 0.1, "high": 0.5}}
    for override in ("space={task.width:{choices:[4]}}", "space.optimizer.lr=null"):
        with pytest.raises(InputError, match="a resumed sweep may be given another"):
            restored(sweep, [override])
