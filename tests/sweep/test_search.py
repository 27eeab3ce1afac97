from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from ristune.config import Config
from ristune.sweep import search
from ristune.sweep.history import State
from ristune.sweep.journal import FILE, Event, Journal
from ristune.sweep.sampler import create_study, preview
from ristune.sweep.search import CONSTRAINT, StudySearch
from ristune.sweep.space import Choices, Range, Space

SPACE: Space = {"optimizer.lr": Range(1e-4, 1e-1, log=True), "task.width": Choices((4, 16))}
CEILING = 1e6
PAUSED = {"trial": "0000", "reason": "SIGINT"}


class Bench:
    """A searcher on a study in memory, and its journal."""

    def __init__(self, config: Config, folder: Path, limit: int = 10, space: Space = SPACE) -> None:
        self.study = create_study("bench", config.sweep)
        self.config = config
        self.journal = Journal(folder / FILE)
        self.search = StudySearch(
            space, self.study, config.sweep, limit, CEILING, self.journal.append, self.journal.history
        )

    def ask(self, *names: str) -> list[Any]:
        return [self.search.suggest(name) for name in names]

    @property
    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.trials]

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(trial.id, str(trial.state)) for trial in self.journal.history.trials.values()]


def record(
    objective: float, epoch: int = 1, status: str = "running", best_epoch: int | None = None
) -> dict[str, Any]:
    best = epoch if best_epoch is None else best_epoch
    return {"epoch": epoch, "objective": objective, "best_epoch": best, "status": status, "reason": ""}


MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    benches: list[Bench] = []

    def make(config: Config, limit: int = 10, space: Space = SPACE) -> Bench:
        benches.append(Bench(config, tmp_path / str(len(benches)), limit, space))
        return benches[-1]

    yield make
    for bench in benches:
        bench.journal.close()


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BACKOFF", 0.0)


@pytest.fixture
def bench(toy: Callable[..., Config], make_bench: MakeBench) -> Bench:
    return make_bench(toy("sweep.startup_trials=4"))


def test_a_suggestion_names_the_trial_and_its_values(bench: Bench) -> None:
    first, second = bench.ask("r1", "r2")
    assert [first["trial"], second["trial"]] == ["0000", "0001"]
    assert set(first["values"]) == set(SPACE)
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


def failed(reason: str, certain: bool = False) -> dict[str, Any]:
    return {**record(CEILING, 0, "failed", 0), "reason": reason, "certain": certain}


def test_a_refused_value_is_told_fail_at_once(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.on_trial_complete("r1", failed("InputError: x", certain=True))
    assert (bench.states, bench.told) == ([TrialState.FAIL], [("0000", "failed")])
    assert bench.journal.history.trials["0000"].reason == "InputError: x"


def test_the_same_exception_twice_is_told_fail(bench: Bench, no_backoff: None) -> None:
    bench.ask("r1")
    bench.search.on_trial_complete("r1", failed("RuntimeError: x"))
    assert (bench.states, bench.told) == ([TrialState.RUNNING], [("0000", "waiting")])
    assert bench.ask("r2")[0]["trial"] == "0000"
    bench.search.on_trial_complete("r2", failed("RuntimeError: x"))
    assert (bench.states, bench.told) == ([TrialState.FAIL], [("0000", "failed")])


def test_a_lost_trial_runs_again_with_its_values_before_any_new_one(bench: Bench, no_backoff: None) -> None:
    first, _ = bench.ask("r1", "r2")
    bench.search.on_trial_complete("r1", error=True)
    bench.search.lost("0000", State.FAILED, "killed", raised=False, blameless=False)
    # What Ray says of the first one any more is of no trial.
    bench.search.on_trial_complete("r1", record(0.1, 9, "complete"))
    again, new = bench.ask("r3", "r4")
    assert again == first
    assert new["trial"] == "0002"
    bench.search.on_trial_complete("r3", record(0.2, 9, "complete"))
    assert bench.study.trials[0].value == 0.2


def test_a_trial_that_is_lost_too_often_is_told_fail(
    toy: Callable[..., Config], make_bench: MakeBench, no_backoff: None
) -> None:
    bench = make_bench(toy("sweep.max_retries=1"))
    for name in ("r1", "r2"):
        assert bench.ask(name)[0]["trial"] == "0000"
        bench.search.lost("0000", State.FAILED, "killed", raised=False, blameless=False)
    assert bench.told == [("0000", "failed")]


def test_a_lost_machine_counts_against_no_trial(
    toy: Callable[..., Config], make_bench: MakeBench, no_backoff: None
) -> None:
    bench = make_bench(toy("sweep.max_retries=0"))
    for name in ("r1", "r2", "r3"):
        assert bench.ask(name)[0]["trial"] == "0000"
        bench.search.lost("0000", State.FAILED, "its node has died", raised=False, blameless=True)
    assert bench.told == [("0000", "waiting")]


def test_an_exception_that_cost_the_actor_is_met_as_one_that_did_not(bench: Bench, no_backoff: None) -> None:
    for name, reason in (("r1", "RuntimeError: x"), ("r2", "RuntimeError: x")):
        assert bench.ask(name)[0]["trial"] == "0000"
        bench.search.lost("0000", State.FAILED, reason, raised=True, blameless=False)
    assert bench.ask("r3")[0]["trial"] == "0001"
    bench.search.lost("0001", State.FAILED, "ristune.errors.InputError: x", raised=True, blameless=False)
    assert bench.told == [("0000", "failed"), ("0001", "failed")]


def test_an_interrupt_while_a_trial_is_asked_leaves_a_journal_that_can_be_read(bench: Bench) -> None:
    note = bench.search._note

    def interrupted(event: Event, **fields: Any) -> None:
        note(event, **fields)
        raise KeyboardInterrupt

    bench.search._note = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.ask("r1")
    bench.search._note = note
    bench.search.close("SIGINT")
    next_one = taken_up(bench)
    assert next_one.ask("s1")[0]["trial"] == "0000"
    next_one.journal.close()


def test_a_trial_that_failed_waits_before_it_runs_again(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.on_trial_complete("r1", failed("RuntimeError: x"))
    assert bench.ask("r2")[0]["trial"] == "0001"


def test_a_killed_actor_out_of_memory_is_infeasible_and_does_not_run_again(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.lost("0000", State.OOM, "OutOfMemoryError", raised=True, blameless=False)
    assert bench.told == [("0000", "oom")]
    assert bench.study.trials[0].constraints == {"finite": 1.0}


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


def test_reports_out_of_order_leave_the_best(bench: Bench) -> None:
    bench.ask("r1")
    for objective, epoch in ((0.2, 3), (0.5, 1), (0.3, 2)):
        bench.search.on_trial_result("r1", record(objective, epoch))
    bench.search.on_trial_complete("r1", record(0.25, 4, "complete"))
    assert bench.study.trials[0].value == 0.2


def test_what_has_not_ended_is_interrupted_not_told(bench: Bench) -> None:
    bench.ask("r1", "r2", "r3")
    bench.search.on_trial_result("r1", record(0.5))
    bench.search.on_trial_complete("r2")
    bench.search.close("SIGINT")
    assert [state for _, state in bench.told] == ["interrupted"] * 3
    assert '"told"' not in bench.journal.path.read_text()


def test_tpe_keeps_away_from_where_trials_diverged(toy: Callable[..., Config], make_bench: MakeBench) -> None:
    space: Space = {"optimizer.lr": Range(1e-4, 1.0, log=True)}
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
    study = create_study("constrained", toy("sweep.startup_trials=10").sweep)
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


def test_a_journal_that_is_taken_up_gives_the_same_study_and_the_same_trials(
    toy: Callable[..., Config], make_bench: MakeBench
) -> None:
    config = toy("sweep.startup_trials=3")

    def run(bench: Bench, names: Sequence[str]) -> list[Any]:
        asked = []
        for name in names:
            asked += bench.ask(name)
            diverged = asked[-1]["values"]["optimizer.lr"] > 0.03
            end = (
                record(CEILING, 1, "diverged", 0) if diverged else record(asked[-1]["values"]["optimizer.lr"])
            )
            bench.journal.append(Event.REPORTED, trial=asked[-1]["trial"], record=end)
            bench.search.on_trial_complete(name, {**end, "status": "diverged" if diverged else "complete"})
        return asked

    names = [f"r{n}" for n in range(12)]
    whole, first = make_bench(config, limit=12), make_bench(config, limit=12)
    expected = run(whole, names)
    found = run(first, names[:7])
    first.journal.close()
    second = Bench(config, first.journal.path.parent, 12)
    assert [(t.params, t.value, t.constraints) for t in second.study.trials] == [
        (t.params, t.value, t.constraints) for t in first.study.trials
    ]
    found += run(second, names[7:])
    second.journal.close()
    assert found == expected
    assert second.search.suggest("r99") == Searcher.FINISHED


def taken_up(bench: Bench, *events: tuple[Event, dict[str, Any]]) -> Bench:
    """The searcher of the next driver, after a journal that ends in some events."""
    for event, values in events:
        bench.journal.append(event, **values)
    bench.journal.close()
    return Bench(bench.config, bench.journal.path.parent)


def test_a_trial_that_was_running_is_handed_out_first(bench: Bench) -> None:
    first, second = bench.ask("r1", "r2")
    bench.search.on_trial_complete("r2", record(0.3, 9, "complete"))
    next_one = taken_up(bench, (Event.STARTED, {"trial": "0000"}), (Event.PAUSED, PAUSED))
    assert next_one.states == [TrialState.RUNNING, TrialState.COMPLETE]
    again, new = next_one.ask("s1", "s2")
    assert (again, new["trial"]) == (first, "0002")
    next_one.search.on_trial_complete("s1", record(0.2, 9, "complete"))
    assert next_one.study.trials[0].value == 0.2
    next_one.journal.close()


def test_a_best_from_before_the_interruption_counts(bench: Bench) -> None:
    bench.ask("r1")
    next_one = taken_up(
        bench, (Event.REPORTED, {"trial": "0000", "record": record(0.1)}), (Event.PAUSED, PAUSED)
    )
    next_one.ask("s1")
    next_one.search.on_trial_complete("s1", record(0.7, 9, "complete", best_epoch=1))
    assert next_one.study.trials[0].value == 0.1
    next_one.journal.close()


@pytest.mark.parametrize(("status", "feasible"), [("complete", 0.0), ("diverged", 0.0)])
def test_a_trial_that_ended_but_was_not_told_is_told_now(bench: Bench, status: str, feasible: float) -> None:
    bench.ask("r1")
    next_one = taken_up(bench, (Event.REPORTED, {"trial": "0000", "record": record(0.4, 9, status)}))
    assert next_one.told == [("0000", status)]
    assert (next_one.study.trials[0].value, next_one.study.trials[0].constraints) == (
        0.4,
        {"finite": feasible},
    )
    assert next_one.ask("s1")[0]["trial"] == "0001"
    next_one.journal.close()


def test_a_trial_that_was_to_be_stopped_is_told_so(bench: Bench) -> None:
    bench.ask("r1")
    reported = (Event.REPORTED, {"trial": "0000", "record": record(0.4)})
    decision = {"trial": "0000", "epoch": 1, "rung": 1, "objective": 0.4, "cutoff": 0.1, "decision": "stop"}
    next_one = taken_up(bench, reported, (Event.DECIDED, decision))
    assert next_one.told == [("0000", "stopped")]
    next_one.journal.close()


def test_failures_before_the_interruption_count(bench: Bench) -> None:
    bench.ask("r1")
    next_one = taken_up(
        bench, (Event.RETRIED, {"trial": "0000", "reason": "RuntimeError: x", "counted": True})
    )
    next_one.ask("s1")
    next_one.search.on_trial_complete("s1", failed("RuntimeError: x"))
    assert next_one.told == [("0000", "failed")]
    next_one.journal.close()
