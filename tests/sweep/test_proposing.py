from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from ristune.config import Config
from ristune.sweep.history import History
from ristune.sweep.journal import FILE, Event, Journal
from ristune.sweep.proposing import CONSTRAINT, Proposer, preview
from ristune.sweep.search import JournaledSearch
from ristune.sweep.space import check_point
from ristune.sweep.space_parsing import read_space
from ristune.sweep.telling import Verdict
from ristune.sweep_config import SAMPLERS
from tests.sweep.bench import CEILING, Bench, MakeBench, record

Toy = Callable[..., Config]
MIXED = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "width": {"low": 4, "high": 64, "step": 4},
    "kind": {"choices": ["a", "b"]},
    "momentum": {"low": 0.0, "high": 0.9, "when": {"kind": "a"}},
}
GRID = {"a": {"choices": [1, 2, 3]}, "b": {"low": 0, "high": 3}}


def run(bench: Bench, count: int, first: int = 0) -> list[dict[str, Any]]:
    """Whole trials, one after the other; those with a high rate diverge."""
    found = []
    for number in range(first, first + count):
        [request] = bench.ask(f"r{number}")
        found.append(request["values"])
        lr = found[-1].get("lr", 1e-3)
        end = record(CEILING, 1, "diverged", 0) if lr > 0.03 else record(lr, 9, "complete")
        bench.search.on_trial_complete(f"r{number}", end)
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_that_is_resumed_proposes_what_it_would_have_proposed(
    toy: Toy, make_bench: MakeBench, name: str
) -> None:
    config = toy(f"sweep.sampler={name}", "sweep.startup_trials=4")
    space = read_space(MIXED)
    # A Gaussian process takes a quarter of a second for each.
    count = 8 if name == "gp" else 14
    whole, first = make_bench(config, limit=count, space=space), make_bench(config, limit=count, space=space)
    expected = run(whole, count)
    found = run(first, count - 3)
    first.journal.close()
    second = Bench(config, first.journal.path.parent, count, space)
    found += run(second, 3, first=count - 3)
    second.journal.close()
    assert found == expected
    assert len({str(values) for values in found}) == count


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_model_keeps_away_from_where_trials_diverge(toy: Toy, make_bench: MakeBench, name: str) -> None:
    space = read_space({"lr": {"low": 1e-4, "high": 1.0, "log": True}})
    config = toy(f"sweep.sampler={name}", "sweep.startup_trials=8", "sweep.seed=1")
    bench = make_bench(config, limit=16, space=space)
    diverged = [values["lr"] > 0.03 for values in run(bench, 16)]
    assert sum(diverged[:8]) >= 2
    assert sum(diverged[10:]) <= 1


def test_no_point_is_tried_twice_and_a_finite_space_ends(toy: Toy, make_bench: MakeBench) -> None:
    bench = make_bench(toy("sweep.startup_trials=4"), limit=30, space=read_space(GRID))
    found = run(bench, 12)
    assert len({str(values) for values in found}) == 12
    assert bench.search.suggest("r99") == "FINISHED"
    assert "there are 12 trials, not 30" in bench.journal.history.warnings[0]


def test_what_constraints_forbid_is_never_proposed(toy: Toy, make_bench: MakeBench) -> None:
    numbers = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0, "when": {"a": [1, 2]}}}
    space = read_space({**GRID, **numbers, "constraints": ["a * b <= 3", "a == 3 or x + y < 0.3"]})
    for values in run(make_bench(toy("sweep.startup_trials=4"), limit=30, space=space), 30):
        assert check_point(space, values) == ""


def test_points_of_the_user_come_first_and_are_filled_up(toy: Toy, tmp_path: Path) -> None:
    config = toy()
    journal = Journal(tmp_path / FILE)
    space = read_space(MIXED)
    whole = {"lr": 0.01, "width": 8, "kind": "b"}
    for point in (whole, {"lr": 0.02}, whole):
        journal.append(Event.ENQUEUED, values=point)
    search = JournaledSearch(space, journal, config.sweep, 9, CEILING)
    assert search.suggest("r1")["values"] == whole
    second = search.suggest("r2")["values"]
    assert second["lr"] == 0.02 and len(second) >= 3
    # The third is the first again.
    assert search.suggest("r3")["values"] != whole
    journal.close()
    asked = [event for event in journal.history.study if event["event"] == "asked"]
    assert [event["source"] for event in asked] == ["enqueued", "enqueued", "sampler"]
    # What was taken from the queue is not taken again.
    journal = Journal(tmp_path / FILE)
    search = JournaledSearch(space, journal, config.sweep, 9, CEILING)
    resumed = [search.suggest(f"s{n}")["values"] for n in range(4)]
    assert resumed[:2] == [whole, second] and whole not in resumed[1:]
    journal.close()


def test_a_point_that_was_passed_over_takes_no_other_with_it_when_the_sweep_goes_on(
    toy: Toy, tmp_path: Path
) -> None:
    config, space = toy(), read_space(MIXED)
    whole = {"lr": 0.01, "width": 8, "kind": "b"}
    journal = Journal(tmp_path / FILE)
    for point in (whole, whole, {"lr": 0.02}, {"lr": 0.03}):
        journal.append(Event.ENQUEUED, values=point)
    search = JournaledSearch(space, journal, config.sweep, 9, CEILING)
    assert [search.suggest(f"r{n}")["values"]["lr"] for n in range(2)] == [0.01, 0.02]
    journal.close()
    journal = Journal(tmp_path / FILE)
    search = JournaledSearch(space, journal, config.sweep, 9, CEILING)
    found = [search.suggest(f"s{n}")["values"]["lr"] for n in range(4)]
    assert found[:3] == [0.01, 0.02, 0.03] and found[3] not in found[:3]
    journal.close()


def test_a_sequence_draws_what_it_does_not_cover_anew_each_time(toy: Toy, make_bench: MakeBench) -> None:
    bench = make_bench(toy("sweep.sampler=qmc"), limit=12, space=read_space(MIXED))
    momenta = [values["momentum"] for values in run(bench, 12) if "momentum" in values]
    assert len(set(momenta)) == len(momenta) > 3


def test_what_is_known_is_learned_from_and_is_no_trial(toy: Toy, make_bench: MakeBench) -> None:
    space = read_space({"lr": {"low": 1e-4, "high": 1e-1, "log": True}})
    config = toy("sweep.startup_trials=10").sweep
    proposer = Proposer(space, config)
    for number in range(60):
        lr = 10 ** (-4 + 3 * number / 59)
        proposer.know({"lr": lr}, abs(np.log10(lr) + 2.5), True)
    found = [proposer.propose(str(n)).values["lr"] for n in range(10)]  # type: ignore[union-attr]
    assert np.mean([abs(np.log10(lr) + 2.5) < 0.5 for lr in found]) > 0.7


def test_a_failed_trial_is_neither_seen_nor_proposed_again(toy: Toy) -> None:
    proposer = Proposer(read_space({"a": {"choices": [1, 2]}}), toy().sweep)
    first = proposer.propose("0000")
    proposer.tell("0000", Verdict("fail", None, False, 0))
    second = proposer.propose("0001")
    assert first is not None and second is not None
    assert {first.values["a"], second.values["a"]} == {1, 2}
    assert proposer.propose("0002") is None
    assert [trial.state for trial in proposer.study.trials] == [TrialState.RUNNING]


def test_a_stateful_sampler_that_proposes_otherwise_now_keeps_what_was_tried(toy: Toy) -> None:
    space, config = read_space({"x": {"low": 0.0, "high": 1.0}}), toy("sweep.sampler=qmc").sweep
    history = History()
    asked = {"event": "asked", "time": 1.0, "trial": "0000", "values": {"x": 0.123}, "source": "sampler"}
    history.apply(asked)
    proposer = Proposer(space, config)
    proposer.recall(history)
    proposer.tell("0000", Verdict("complete", 0.5, True, 1))
    [trial] = proposer.study.trials
    assert (trial.params, trial.value, trial.constraints) == ({"x": 0.123}, 0.5, {CONSTRAINT: 0.0})


def test_the_preview_is_what_is_proposed_first(toy: Toy, make_bench: MakeBench) -> None:
    config, space = toy("sweep.startup_trials=4"), read_space(MIXED)
    point = {"lr": 0.01, "width": 8, "kind": "b"}
    shown = preview(space, config.sweep, 9, [point])
    assert shown[0] == point and len(shown) == 5
    assert preview(space, config.sweep, 9) == run(make_bench(config, space=space), 4)
