import pytest

from ristune.sweep.causes import diagnose
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


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        (TASK, State.FAILED, "RuntimeError: planted failure"),
        (DEATH, State.FAILED, "The actor died unexpectedly before finishing this task."),
        (
            TASK.replace("RuntimeError: planted failure", "torch.OutOfMemoryError: CUDA out of memory."),
            State.OOM,
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        ("", State.FAILED, "unknown"),
    ],
)
def test_rays_account_of_a_failure_becomes_one_line(text: str, state: State, reason: str) -> None:
    assert diagnose(text) == (state, reason)
