from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.journal import FILE, Event, Journal
from ristune.sweep.knowledge import Knowledge, read_known, read_points
from ristune.sweep.space_parsing import parse_space
from tests.sweep.bench import CEILING, Bench, record

Toy = Callable[..., Config]
SPACE = {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "task.width": {"choices": [4, 16]}}


def write(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def old_sweep(config: Config, folder: Path) -> Path:
    """A sweep of the learning rate alone: trials that were whole, diverged, failed, and one that runs."""
    only = {"optimizer.lr": SPACE["optimizer.lr"]}
    space = parse_space(_with_space(config, only))
    journal = Journal(folder / "journal" / FILE)
    journal.append(Event.SWEEP_STARTED, name="old", source=config.source)
    journal.close()
    bench = Bench(config, folder / "journal", space=space)
    bench.ask("a", "b", "c", "d")
    bench.search.on_trial_complete("a", record(0.25, 9, "complete"))
    bench.search.on_trial_complete("b", record(CEILING, 1, "diverged", 0))
    bench.search.on_trial_complete("c", {**record(CEILING, 0, "failed", 0), "record": None, "certain": True})
    bench.journal.close()
    return folder


def _with_space(config: Config, space: dict[str, Any]) -> Config:
    return replace(config, space=space)


def test_the_best_of_a_sweep_is_a_point(toy: Toy, tmp_path: Path) -> None:
    space = parse_space(toy(space=SPACE))
    best = {"config_dirs": [], "overrides": ["task=toy", "data.uri=x", "optimizer.lr=0.01", "task.width=16"]}
    assert read_points(write(tmp_path / "best.yaml", best), space) == [
        {"optimizer.lr": 0.01, "task.width": 16}
    ]


def test_points_are_given_by_hand_too_and_may_be_parts(toy: Toy, tmp_path: Path) -> None:
    space = parse_space(toy(space=SPACE))
    points = [{"optimizer.lr": 0.01}, {"optimizer.lr": 0.02, "task.width": 4}]
    assert read_points(write(tmp_path / "p.yaml", points), space) == points
    assert read_points(write(tmp_path / "p.yaml", points[1]), space) == points[1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"optimizer.lr": 1.0}, "optimizer.lr"),
        ({"optimizer.rl": 0.01}, "did you mean 'optimizer.lr'"),
        ([{"task.width": 5}], "task.width"),
        ([], None),
        ([3], "a point must be a mapping"),
        ({"overrides": ["data.uri=x"]}, "a point must be a mapping"),
    ],
)
def test_points_that_are_not_of_the_space_are_refused(
    toy: Toy, tmp_path: Path, content: Any, message: str | None
) -> None:
    space, path = parse_space(toy(space=SPACE)), write(tmp_path / "p.yaml", content)
    if message is None:
        assert read_points(path, space) == []
        return
    with pytest.raises(InputError, match=message):
        read_points(path, space)


def test_a_file_that_is_not_there_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--enqueue: got .*none.yaml.*it must be a YAML file"):
        read_points(tmp_path / "none.yaml", parse_space(toy(space=SPACE)))


def test_trials_of_another_sweep_are_known_with_what_was_fixed_there(toy: Toy, tmp_path: Path) -> None:
    config = toy("task.width=16", space=SPACE)
    known = read_known(old_sweep(config, tmp_path / "old"), parse_space(config), config)
    assert [(t["trial"], t["value"], t["feasible"]) for t in known.trials] == [
        ("0000", 0.25, True),
        ("0001", CEILING, False),
    ]
    assert all(trial["values"]["task.width"] == 16 for trial in known.trials)
    assert known.left_out == 0


def test_trials_outside_of_the_space_are_left_out(toy: Toy, tmp_path: Path) -> None:
    # The width that was fixed there is none of the choices here.
    config = toy("task.width=8", space=SPACE)
    known = read_known(old_sweep(config, tmp_path / "old"), parse_space(config), config)
    assert (known.trials, known.left_out) == ((), 2)


def test_a_sweep_of_another_objective_is_refused(toy: Toy, tmp_path: Path) -> None:
    config = toy(space=SPACE)
    folder = old_sweep(toy("task.objective=other", space=SPACE), tmp_path / "old")
    with pytest.raises(InputError, match="--warm-start.*its task and objective must be those of this sweep"):
        read_known(folder, parse_space(config), config)
    with pytest.raises(InputError, match="it must be the folder of a sweep"):
        read_known(tmp_path / "none", parse_space(config), config)


def test_knowledge_is_kept_by_the_journal_and_taken_up(toy: Toy, tmp_path: Path) -> None:
    config = toy("task.width=16", space=SPACE)
    space = parse_space(config)
    point = {"optimizer.lr": 0.01, "task.width": 4}
    known = read_known(old_sweep(config, tmp_path / "old"), space, config)
    journal = Journal(tmp_path / "new" / FILE)
    journal.extend(Knowledge([point], [known]).events())
    journal.close()
    bench = Bench(config, tmp_path / "new", space=space)
    assert bench.ask("a")[0]["values"] == point
    # Two are known, one runs: they are no trials of this sweep.
    assert len(bench.search.study.trials) == 3
    assert list(bench.journal.history.trials) == ["0000"]
    bench.journal.close()
