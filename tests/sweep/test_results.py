import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from ristune.config import compose
from ristune.sweep import results
from ristune.sweep.journal import Event, Journal
from tests.sweep.conftest import CONFIGS
from tests.sweep.events import STARTED, asked, history, mixed, reported


def test_the_summary_has_its_fixed_shape() -> None:
    summary = results.summary(mixed())
    assert summary["name"] == "made-up"
    assert summary["trials"] == {
        "total": 6,
        "complete": 1,
        "stopped": 1,
        "diverged": 1,
        "oom": 1,
        "failed": 1,
        "running": 1,
        "interrupted": 0,
    }
    assert summary["best"] == {
        "trial": "0000",
        "objective": 0.25,
        "epoch": 2,
        "values": {"optimizer.lr": 0.1, "task.width": 4},
        "metrics": {"mse": 0.25},
    }
    assert summary["epochs"] == 6
    # Five trials ended, each after eight seconds on half a GPU.
    assert summary["gpu_hours"] == pytest.approx(5 * 8 * 0.5 / 3600)
    assert summary["seconds"] == pytest.approx(10.0)
    assert summary["versions"] == {"ristune": "0"}
    assert summary["failures"] == {
        "diverged: loss is nan": 1,
        "failed: RuntimeError: planted": 1,
        "oom: OutOfMemoryError": 1,
    }
    json.dumps(summary, allow_nan=False)


def test_there_is_no_best_where_nothing_was_finite() -> None:
    assert results.summary(history(asked("0000")))["best"] is None
    assert results.summary(history())["trials"]["total"] == 0


def test_tables_hold_a_row_a_trial_and_a_row_a_record(tmp_path: Path) -> None:
    results.write(tmp_path, mixed())
    trials = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["state"] for row in trials] == ["complete", "stopped", "diverged", "failed", "oom", "running"]
    assert trials[1]["values/optimizer.lr"] == 0.2
    records = pq.read_table(tmp_path / "records.parquet").to_pylist()
    assert [(row["trial"], row["epoch"]) for row in records][:3] == [("0000", 1), ("0000", 2), ("0001", 1)]
    assert records[0]["val/mse"] == 0.5


def test_a_column_of_mixed_choices_becomes_text(tmp_path: Path) -> None:
    sweep = history(asked("a", x=1, y=1), asked("b", x="one", y=2.5), asked("c", x=None, y=None))
    results.write(tmp_path, sweep)
    table = pq.read_table(tmp_path / "trials.parquet")
    assert table["values/x"].to_pylist() == ["1", "one", None]
    assert table["values/y"].to_pylist() == [1.0, 2.5, None]


def test_a_sweep_without_trials_still_has_all_its_files(tmp_path: Path) -> None:
    results.write(tmp_path, history())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "records.parquet",
        "summary.json",
        "trials.parquet",
    ]


def test_the_winners_checkpoint_is_copied_and_replaced(tmp_path: Path) -> None:
    for trial, text in (("0000", "first"), ("0001", "second")):
        (tmp_path / "trials" / trial / "best").mkdir(parents=True)
        (tmp_path / "trials" / trial / "best" / "state.json").write_text(text)
    sweep = history(asked("0000"), asked("0001"), reported("0000", 1, 0.5))
    results.write(tmp_path, sweep)
    assert (tmp_path / "best" / "state.json").read_text() == "first"
    sweep.apply(reported("0001", 1, 0.4))
    results.write(tmp_path, sweep)
    assert (tmp_path / "best" / "state.json").read_text() == "second"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer.lr": 0.1 + 0.2, "task.width": 64},
        {"optimizer.lr": 1e-05, "task.explode": True, "data.train_limit": None},
        {"tracking.project": "it's a 'text', with [all] {sorts} of \\ signs"},
        {"tracking.project": "1e5"},
    ],
)
def test_best_yaml_reproduces_the_values_to_the_last_digit(values: dict[str, Any]) -> None:
    events = [asked("0000", **values), reported("0000", 1, 0.5)]
    sweep = history(*events)
    assert sweep.best is not None
    text = results.best_yaml(sweep, sweep.best)
    loaded = yaml.safe_load(text)
    assert loaded["config_dirs"] == ["/somewhere/configs"]
    # Neither `space=` nor `sweep.` concerns a training.
    assert loaded["overrides"][:3] == ["task=toy", "training.epochs=9", "data.uri=data/x"]
    config = compose(loaded["overrides"], [CONFIGS]).resolved()
    for path, value in values.items():
        group, name = path.split(".")
        assert config[group][name] == value


def test_best_yaml_begins_with_the_commands() -> None:
    sweep = mixed()
    assert sweep.best is not None
    lines = results.best_yaml(sweep, sweep.best).splitlines()
    assert lines[1] == "#   python -m ristune.sweep --trials 6"
    assert lines[3] == "#   python -m ristune.train --from runs/made-up/best.yaml training.epochs=36"


def test_everything_is_made_from_the_journal_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal" / "events.jsonl")
    fields = {key: value for key, value in STARTED.items() if key not in ("event", "time")}
    journal.append(Event.SWEEP_STARTED, **fields)
    journal.append(Event.ASKED, trial="0000", values={"optimizer.lr": 0.1})
    journal.append(Event.REPORTED, trial="0000", record=reported("0000", 1, 0.5)["record"])
    journal.close()
    assert results.load(tmp_path) == journal.history


def test_while_trials_run_their_checkpoints_are_left_alone(tmp_path: Path) -> None:
    """A worker renames its checkpoint at any moment: copying it meanwhile could fail, and end the sweep."""
    (tmp_path / "trials" / "0000" / "best").mkdir(parents=True)
    results.write_tables(tmp_path, mixed())
    assert (tmp_path / "summary.json").is_file() and (tmp_path / "best.yaml").is_file()
    assert not (tmp_path / "best").exists()
    results.write(tmp_path, mixed())
    assert (tmp_path / "best").is_dir()


def test_a_value_that_was_not_searched_in_a_trial_is_null(tmp_path: Path) -> None:
    sweep = history(asked("a", name="adam"), asked("b", name="sgd", momentum=0.9))
    results.write(tmp_path, sweep)
    table = pq.read_table(tmp_path / "trials.parquet")
    assert table["values/momentum"].to_pylist() == [None, 0.9]


def test_best_yaml_leaves_out_a_space_of_the_command_line() -> None:
    sweep = history(asked("0000", **{"optimizer.lr": 0.25}), reported("0000", 1, 0.5))
    inline = ["space={task.width:{choices:[4,16]}}", "space.optimizer.lr={low:0.1,high:0.5}", "space.x=null"]
    sweep.started["overrides"] = [*inline, "task=toy", "space.constraints=['task.width <= 8']"]
    assert sweep.best is not None
    loaded = yaml.safe_load(results.best_yaml(sweep, sweep.best))
    assert loaded["overrides"] == ["task=toy", "optimizer.lr=0.25"]
