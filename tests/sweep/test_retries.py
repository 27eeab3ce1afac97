from collections.abc import Callable

from optuna.trial import TrialState

from ristune.config import Config
from tests.sweep.bench import KILLED, NODE_LOST, RAISED, Bench, MakeBench, failed, record


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
    bench.search.on_trial_error("r1", KILLED)
    bench.search.on_trial_complete("r1", error=True)
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
        bench.search.on_trial_error(name, KILLED)
    assert bench.told == [("0000", "failed")]


def test_a_lost_machine_counts_against_no_trial(
    toy: Callable[..., Config], make_bench: MakeBench, no_backoff: None
) -> None:
    bench = make_bench(toy("sweep.max_retries=0"))
    for name in ("r1", "r2", "r3"):
        assert bench.ask(name)[0]["trial"] == "0000"
        bench.search.on_trial_error(name, NODE_LOST)
    assert bench.told == [("0000", "waiting")]


def test_an_exception_that_cost_the_actor_is_met_as_one_that_did_not(bench: Bench, no_backoff: None) -> None:
    for name, reason in (("r1", "RuntimeError: x"), ("r2", "RuntimeError: x")):
        assert bench.ask(name)[0]["trial"] == "0000"
        bench.search.on_trial_error(name, RAISED.format(reason))
    assert bench.ask("r3")[0]["trial"] == "0001"
    bench.search.on_trial_error("r3", RAISED.format("ristune.errors.InputError: x"))
    assert bench.told == [("0000", "failed"), ("0001", "failed")]


def test_a_trial_that_failed_waits_before_it_runs_again(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.on_trial_complete("r1", failed("RuntimeError: x"))
    assert bench.ask("r2")[0]["trial"] == "0001"


def test_a_killed_actor_out_of_memory_is_infeasible_and_does_not_run_again(bench: Bench) -> None:
    bench.ask("r1")
    bench.search.on_trial_error("r1", RAISED.format("torch.OutOfMemoryError: CUDA"))
    assert bench.told == [("0000", "oom")]
    assert bench.study.trials[0].constraints == {"finite": 1.0}
