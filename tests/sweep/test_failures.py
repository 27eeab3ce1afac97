import pytest

from ristune.sweep.failures import KILLED, FailureLimit, diagnose
from ristune.sweep.history import State
from tests.sweep.events import asked, history, told

TASK = """Failure # 1 (occurred at 2026-01-01_00-00-00)
ray::TrialWorker.train() (pid=1, ip=127.0.0.1, actor_id=ab, repr=<TrialWorker>)
  File "trainable.py", line 330, in train
    raise skipped from exception_cause(skipped)
RuntimeError: planted failure
"""
DEATH = """Failure # 1 (occurred at 2026-01-01_00-00-00)
The actor died unexpectedly before finishing this task.
	class_name: with_parameters.<locals>._Inner
	actor_id: ab
	pid: 1
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: ...
"""
LOST = """Failure # 1 (occurred at 2026-01-01_00-00-00)
The actor died because its node has died. Node Id: ab
	the actor's node was terminated unexpectedly
"""


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        (TASK, State.FAILED, "RuntimeError: planted failure"),
        (DEATH, State.FAILED, KILLED),
        (LOST, State.FAILED, "The actor died because its node has died. Node Id: ab"),
        (
            TASK.replace("RuntimeError: planted failure", "torch.OutOfMemoryError: CUDA out of memory."),
            State.OOM,
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        ("", State.FAILED, "unknown"),
    ],
)
def test_rays_account_of_a_failure_becomes_one_line(text: str, state: State, reason: str) -> None:
    assert (diagnose(text).state, diagnose(text).reason) == (state, reason)


def test_a_lost_machine_and_a_worn_worker_say_nothing_of_the_trial() -> None:
    worn = TASK.replace("RuntimeError: planted", "ristune.sweep.worker.WornOut: 600 MiB left, no")
    losses = [diagnose(text) for text in (TASK, DEATH, LOST, worn)]
    assert [loss.blameless for loss in losses] == [False, False, True, True]
    assert [loss.raised for loss in losses] == [True, False, False, True]


def test_a_sweep_most_of_whose_trials_fail_is_not_gone_on_with() -> None:
    sweep = history(*[asked(f"{n}") for n in range(12)])
    limit = FailureLimit(0.5, sweep)
    for n in range(8):
        sweep.apply(told(f"{n}", "failed" if n < 4 else "complete"))
    assert limit.exceeded() == ""
    sweep.apply(told("8", "failed"))
    assert limit.exceeded() == (
        "5 of the 9 trials that ended have failed, more than sweep.max_failed_share (0.5)"
    )


def test_few_failures_say_nothing_yet() -> None:
    sweep = history(*[asked(f"{n}") for n in range(4)])
    limit = FailureLimit(0.1, sweep)
    for n in range(4):
        sweep.apply(told(f"{n}", "failed"))
    assert limit.exceeded() == ""


def test_a_share_of_one_lets_all_fail() -> None:
    sweep = history(*[asked(f"{n}") for n in range(9)])
    limit = FailureLimit(1.0, sweep)
    for n in range(9):
        sweep.apply(told(f"{n}", "failed"))
    assert limit.exceeded() == ""


def test_failures_of_an_earlier_run_do_not_count_against_a_resumed_one() -> None:
    sweep = history(*[asked(f"{n}") for n in range(12)], *[told(f"{n}", "failed") for n in range(8)])
    limit = FailureLimit(0.5, sweep)
    sweep.apply(told("8", "failed"))
    assert limit.exceeded() == ""
