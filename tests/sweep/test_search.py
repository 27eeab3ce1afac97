from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from ristune.config import Config
from ristune.sweep.proposing import CONSTRAINT, preview
from ristune.sweep.sampler import create_study
from ristune.sweep.space import Parameter, Range, Space
from ristune.sweep.window import Window
from tests.sweep.bench import CEILING, SPACE, Bench, MakeBench, record


def test_a_suggestion_names_the_trial_and_its_values(bench: Bench) -> None:
    first, second = bench.ask("r1", "r2")
    assert [first["trial"], second["trial"]] == ["0000", "0001"]
    assert set(first["values"]) == set(SPACE.parameters)
    assert bench.journal.history.trials["0001"].values == second["values"]


def test_no_more_trials_than_the_limit(toy: Callable[..., Config], make_bench: MakeBench) -> None:
    bench = make_bench(toy(), limit=2)
    bench.ask("r1", "r2")
    # They may be lost yet, and have to run again.
    assert bench.search.suggest("r3") is None
    for name in ("r1", "r2"):
        bench.search.on_trial_complete(name, record(0.5, 9, "complete"))
    assert bench.search.suggest("r4") == Searcher.FINISHED
    assert len(bench.study.trials) == 2


def test_the_same_ray_trial_gets_the_same_values(bench: Bench) -> None:
    assert bench.search.suggest("r1") == bench.search.suggest("r1")
    assert len(bench.study.trials) == 1


def test_complete_and_stopped_trials_are_told_complete_with_their_best(bench: Bench) -> None:
    bench.ask("r1", "r2")
    bench.search.on_trial_result("r1", record(0.5))
    bench.search.on_trial_complete("r1", record(0.3, 9, "complete"))
    bench.search.on_trial_complete("r2", record(0.7, 1, "running"))
    assert [(t.state, t.value) for t in bench.study.trials] == [
        (TrialState.COMPLETE, 0.3),
        (TrialState.COMPLETE, 0.7),
    ]
    assert bench.told == [("0000", "complete"), ("0001", "stopped")]
    assert all(trial.constraints == {"finite": 0.0} for trial in bench.study.trials)


def test_a_trial_without_a_finite_validation_is_infeasible_under_the_ceiling(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.on_trial_complete("r1", record(CEILING, 1, "diverged", best_epoch=0))
    assert (bench.study.trials[0].state, bench.study.trials[0].value) == (TrialState.COMPLETE, CEILING)
    assert bench.study.trials[0].constraints == {"finite": 1.0}
    assert bench.told == [("0000", "diverged")]


def test_a_trial_that_diverged_late_keeps_its_best(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.on_trial_complete("r1", record(0.4, 7, "diverged", best_epoch=5))
    assert bench.study.trials[0].value == 0.4
    assert bench.study.trials[0].constraints == {"finite": 0.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_non_finite_objective_never_reaches_optuna(bench: Bench, value: Any) -> None:
    bench.ask("r1")
    bench.search.on_trial_result("r1", record(value))
    bench.search.on_trial_complete("r1", record(value, 2, "diverged"))
    assert bench.study.trials[0].value == CEILING


def test_a_trial_is_told_once_whatever_comes_after(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.on_trial_complete("r1", record(0.3, 9, "complete"))
    bench.search.on_trial_complete("r1", record(0.1, 9, "complete"))
    bench.search.on_trial_complete("r1", error=True)
    bench.search.on_trial_result("r1", record(0.0))
    bench.search.close("over")
    assert [(t.state, t.value) for t in bench.study.trials] == [(TrialState.COMPLETE, 0.3)]
    assert bench.journal.path.read_text().count('"told"') == 1


def test_events_of_unknown_trials_do_no_harm(bench: Bench) -> None:
    bench.search.on_trial_result("never-asked", record(0.1))
    bench.search.on_trial_complete("never-asked", record(0.1, 9, "complete"))
    bench.search.on_trial_complete("never-asked", error=True)
    assert bench.study.trials == []


def test_reports_out_of_order_change_nothing(bench: Bench) -> None:
    bench.ask("r1")
    for objective, epoch in ((0.2, 3), (0.5, 1), (0.3, 2)):
        bench.search.on_trial_result("r1", record(objective, epoch))
    bench.search.on_trial_complete("r1", record(0.2, 4, "complete", best_epoch=3))
    assert bench.study.trials[0].value == 0.2


def test_what_has_not_ended_is_interrupted_not_told(bench: Bench) -> None:
    bench.ask("r1", "r2", "r3")
    bench.search.on_trial_result("r1", record(0.5))
    bench.search.on_trial_complete("r2")
    bench.search.close("SIGINT")
    assert [state for _, state in bench.told] == ["interrupted"] * 3
    assert '"told"' not in bench.journal.path.read_text()


def test_tpe_keeps_away_from_where_trials_diverged(toy: Callable[..., Config], make_bench: MakeBench) -> None:
    space = Space({"optimizer.lr": Parameter(Range(1e-4, 1.0, log=True))})
    bench = make_bench(toy("sweep.startup_trials=10"), limit=60, space=space)
    diverged = []
    for index in range(60):
        lr = bench.search.suggest(f"r{index}")["values"]["optimizer.lr"]
        diverged.append(lr > 1e-2)
        end = record(CEILING, 1, "diverged", 0) if diverged[-1] else record(abs(np.log10(lr) + 3))
        bench.search.on_trial_complete(f"r{index}", end)
    assert sum(diverged[:10]) >= 3
    assert np.mean(diverged[30:]) < 0.2


def test_tpe_ranks_the_infeasible_last_even_with_the_best_value(toy: Callable[..., Config]) -> None:
    # What the searcher relies on: Optuna honours the constraint before it looks at the value.
    study = create_study("constrained", toy("sweep.startup_trials=10").sweep, Window(100))
    infeasible = []
    for _ in range(60):
        trial = study.ask()
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        infeasible.append(lr > 1e-2)
        trial.set_constraint(CONSTRAINT, float(infeasible[-1]))
        study.tell(trial, 0.0 if infeasible[-1] else 1.0 + abs(np.log10(lr) + 3))
    assert sum(infeasible[:10]) >= 3
    assert np.mean(infeasible[30:]) < 0.2


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_proposes_the_same_values(
    toy: Callable[..., Config], make_bench: MakeBench, sampler: str
) -> None:
    def run(seed: int) -> list[Any]:
        overrides = (f"sweep.sampler={sampler}", f"sweep.seed={seed}", "sweep.startup_trials=3")
        bench = make_bench(toy(*overrides), limit=8)
        asked = []
        for index in range(8):
            asked += bench.ask(f"r{index}")
            bench.search.on_trial_complete(
                f"r{index}", record(asked[-1]["values"]["optimizer.lr"], 9, "complete")
            )
        return [request["values"] for request in asked]

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_the_preview_shows_what_a_sweep_would_try_first(
    toy: Callable[..., Config], make_bench: MakeBench
) -> None:
    config = toy("sweep.startup_trials=4")
    bench = make_bench(config)
    asked = [request["values"] for request in bench.ask("a", "b", "c", "d")]
    assert preview(SPACE, config.sweep, 9) == asked
