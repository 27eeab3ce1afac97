import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ristune.sweep.worker import TERMINATED
from tests.sweep.actors import Actor, MakeActor, values_of


@pytest.fixture
def make(make_actor: MakeActor) -> Callable[[], Actor]:
    return lambda: make_actor("task=failing", "training.epochs=4")


# One look before the first epoch, then one at each: validation has 64 samples, one batch.
@pytest.mark.parametrize(("how", "name"), [("renamed", "error"), ("nothing", "")])
@pytest.mark.parametrize(("at", "epochs"), [(1, 0), (4, 2)], ids=["at once", "from the third epoch on"])
def test_an_objective_that_is_not_measured_fails_its_trial_for_good(
    make: Callable[[], Actor], how: str, name: str, at: int, epochs: int
) -> None:
    actor = make()
    *sound, failed = actor.run("0000", task__how=how, task__at=at)
    assert len(sound) == epochs
    assert (failed["status"], failed["certain"], failed["record"]) == ("failed", True, None)
    assert failed["reason"].startswith(
        "InputError: training.objective: got 'mse'; it must be a metric of the task at every validation: "
        + name
    )
    # It is that trial's fault alone.
    assert actor.run("0001")[-1]["status"] == "complete"


def test_metrics_that_are_none_fail_their_trial(make: Callable[[], Actor]) -> None:
    actor = make()
    [failed] = actor.run("0000", task__how="none")
    assert failed["status"] == "failed"
    assert actor.run("0001")[-1]["status"] == "complete"


def test_a_task_that_exits_fails_its_trial_and_not_the_worker(make: Callable[[], Actor]) -> None:
    actor = make()
    *_, failed = actor.run("0000", task__how="exit", task__at=3)
    assert (failed["status"], failed["reason"], failed["epoch"]) == ("failed", "SystemExit: 3", 1)
    assert actor.run("0001")[-1]["status"] == "complete"


def test_a_worker_that_ray_ends_ends(make: Callable[[], Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._raylet import raise_sys_exit_with_custom_error_message as terminate

    actor = make()
    actor.run("0000", epochs=1)

    def killed(self: Any) -> None:
        terminate("The process receives a SIGTERM.", exit_code=1)

    monkeypatch.setattr("ristune.training.trainer.Trainer._begin", killed)
    with pytest.raises(SystemExit) as error:
        actor.worker.step()
    assert hasattr(error.value, TERMINATED)


# A worker in a process of its own: it prints what its trial reports but for clocks.
SCRIPT = """
import sys
from pathlib import Path
from ristune.config import compose
from tests.sweep.actors import Actor, values_of
task = ["task=toy", "space=toy", "tracking.mode=disabled", "training.device=cpu", "training.epochs=3"]
data = [f"data.uri={sys.argv[1]}", f"data.cache={sys.argv[2]}"]
actor = Actor(compose([*task, *data], ["tests/configs"]), Path(sys.argv[3]))
print(values_of(actor.run("0000")))
"""


def test_a_dataset_is_fetched_once_for_all_trials_and_workers_of_a_node(
    toy: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    config = toy(f"data.uri={copy}", "training.epochs=3", f"data.cache={tmp_path / 'cache'}")
    actor = Actor(config, tmp_path / "first")
    first = values_of(actor.run("0000"))
    # Nothing can be fetched any more: what is trained on is in the node's cache.
    for shard in copy.rglob("*.parquet"):
        shard.write_bytes(b"gone")
    assert values_of(actor.run("0001")) == first
    command = [sys.executable, "-c", SCRIPT, str(copy), str(tmp_path / "cache"), str(tmp_path / "second")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert found.stdout.splitlines()[-1:] == [str(first)], found.stderr
