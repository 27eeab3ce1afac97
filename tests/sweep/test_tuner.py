from pathlib import Path

import pytest

from ristune.config import compose
from ristune.sweep.history import State
from ristune.sweep.tuner import diagnose, for_workers

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


def test_workers_find_the_same_places_and_share_a_gpu() -> None:
    config = compose(["data.cache=kept", "sweep.gpu_per_trial=0.25", "data.gpu_share=0.6"])
    data = for_workers(config).data
    assert (data.uri, data.cache) == (str(Path("data/nearfield").resolve()), str(Path("kept").resolve()))
    assert data.gpu_share == pytest.approx(0.15)
    remote = for_workers(compose(["data.uri=s3://bucket/d?endpoint=http://h:1&region=x"]))
    assert remote.data.uri == "s3://bucket/d?endpoint=http://h:1&region=x"
    assert remote.data.cache is None
