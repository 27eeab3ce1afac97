from collections.abc import Callable
from pathlib import Path

import pytest

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.resources import local_cores, local_gpus, plan, plan_cluster

Toy = Callable[..., Config]


@pytest.mark.parametrize(
    ("cores", "gpus", "trials", "overrides", "expected"),
    [
        (8, 0, 20, (), (8, 1, 0.0)),
        (8, 0, 3, (), (3, 2, 0.0)),
        (8, 0, 20, ("sweep.concurrency=2",), (2, 4, 0.0)),
        (8, 0, 20, ("sweep.cpus_per_trial=3",), (2, 3, 0.0)),
        (2, 0, 20, ("sweep.concurrency=5",), (2, 1, 0.0)),
        (1, 0, 1, (), (1, 1, 0.0)),
        (16, 2, 20, (), (2, 8, 1.0)),
        (16, 2, 20, ("sweep.gpu_per_trial=0.25",), (8, 2, 0.25)),
        (16, 1, 20, ("sweep.gpu_per_trial=0.4",), (2, 8, 0.4)),
        (16, 2, 20, ("sweep.concurrency=1",), (1, 16, 1.0)),
        (4, 8, 20, (), (4, 1, 1.0)),
    ],
)
def test_a_machine_is_shared_out(
    toy: Toy,
    cores: int,
    gpus: int,
    trials: int,
    overrides: tuple[str, ...],
    expected: tuple[int, int, float],
) -> None:
    resources = plan(cores, gpus, trials, toy(*overrides).sweep)
    assert (resources.concurrency, resources.cpus, resources.gpu) == expected
    assert resources.concurrency * resources.cpus <= cores
    assert resources.concurrency * resources.gpu <= gpus


def test_more_cores_a_trial_than_there_are_is_refused(toy: Toy) -> None:
    with pytest.raises(InputError, match=r"sweep.cpus_per_trial: got 9; .* \(4\)"):
        plan(4, 0, 20, toy("sweep.cpus_per_trial=9").sweep)


@pytest.mark.parametrize(
    ("limit", "most"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 10**6)]
)
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, limit: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    unlimited = local_cores(tmp_path / "nothing")
    assert local_cores(tmp_path / "cpu.max") == min(unlimited, most)


def test_no_gpu_where_training_is_on_the_cpu() -> None:
    assert local_gpus("cpu") == 0


def test_a_cluster_is_asked_for_what_was_said_not_for_what_it_has_yet(toy: Toy) -> None:
    config = toy("sweep.concurrency=8", "sweep.gpu_per_trial=0.5")
    resources = plan_cluster("cuda", 200, config.sweep)
    assert (resources.concurrency, resources.cpus, resources.gpu, resources.gpus) == (8, 1, 0.5, 4)
    assert (
        plan_cluster("cpu", 3, config.sweep).gpu == 0.0
        and plan_cluster("cpu", 3, config.sweep).concurrency == 3
    )


def test_a_cluster_may_not_be_left_to_guess(toy: Toy) -> None:
    with pytest.raises(InputError, match="sweep.concurrency: got 0; with --address it must be given"):
        plan_cluster("cuda", 200, toy().sweep)
    with pytest.raises(
        InputError, match="training.device: got 'auto'; with --address it must be cuda or cpu"
    ):
        plan_cluster("auto", 200, toy("sweep.concurrency=8").sweep)
