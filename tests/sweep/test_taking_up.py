from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from ristune.config import Config
from ristune.sweep.journal import Event
from tests.sweep.bench import CEILING, Bench, MakeBench, failed, record

PAUSED = {"trial": "0000", "reason": "SIGINT"}


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
        bench, (Event.REPORTED, {"trial": "0000", "record": record(0.1)["record"]}), (Event.PAUSED, PAUSED)
    )
    next_one.ask("s1")
    next_one.search.on_trial_complete("s1", record(0.1, 9, "complete", best_epoch=1))
    assert next_one.study.trials[0].value == 0.1
    next_one.journal.close()


@pytest.mark.parametrize(("status", "feasible"), [("complete", 0.0), ("diverged", 0.0)])
def test_a_trial_that_ended_but_was_not_told_is_told_now(bench: Bench, status: str, feasible: float) -> None:
    bench.ask("r1")
    next_one = taken_up(
        bench, (Event.REPORTED, {"trial": "0000", "record": record(0.4, 9, status)["record"]})
    )
    assert next_one.told == [("0000", status)]
    assert (next_one.study.trials[0].value, next_one.study.trials[0].constraints) == (
        0.4,
        {"finite": feasible},
    )
    assert next_one.ask("s1")[0]["trial"] == "0001"
    next_one.journal.close()


def test_a_trial_that_was_to_be_stopped_is_told_so(bench: Bench) -> None:
    bench.ask("r1")
    reported = (Event.REPORTED, {"trial": "0000", "record": record(0.4)["record"]})
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


def test_an_interrupt_while_a_trial_is_asked_leaves_a_journal_that_can_be_read(bench: Bench) -> None:
    def interrupted(event: Mapping[str, Any]) -> None:
        if event["event"] == Event.ASKED:
            raise KeyboardInterrupt

    bench.journal.subscribe(interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.ask("r1")
    bench.search.close("SIGINT")
    next_one = taken_up(bench)
    assert next_one.ask("s1")[0]["trial"] == "0000"
    next_one.journal.close()
