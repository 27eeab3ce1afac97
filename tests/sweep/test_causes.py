import pytest

from ristune.sweep.causes import KILLED, diagnose
from ristune.sweep.history import State

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


def test_a_machine_that_is_lost_or_will_be_and_a_worn_worker_say_nothing_of_the_trial() -> None:
    worn = TASK.replace("RuntimeError: planted", "ristune.sweep.worker.WornOut: 600 MiB left, no")
    noticed = TASK.replace("RuntimeError: planted", "ristune.preemption.Preempted: aws: terminate, no")
    losses = [diagnose(text) for text in (TASK, DEATH, LOST, worn, noticed)]
    assert [loss.blameless for loss in losses] == [False, False, True, True, True]
    assert [loss.raised for loss in losses] == [True, False, False, True, True]
