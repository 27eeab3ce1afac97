import math

import pytest
import torch
from torch import nn

from ristune.training.config import OptimizerConfig
from ristune.training.schedule import Schedule, one_cycle, warmup_cosine
from tests.training.conftest import OPTIMIZER


def made(total=100, held=None, **changes):
    config = OptimizerConfig(**{**OPTIMIZER, "lr": 1.0, "final_lr": 0.01, **changes})
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Schedule(optimizer, config, total, held)
    # A scheduler warns of an optimizer that never stepped.
    optimizer.step()
    return schedule, optimizer


def rates(schedule, optimizer, steps):
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


def test_cosine_rises_to_one_and_falls_to_its_floor():
    factors = [warmup_cosine(step, 100, 10, 0.01) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert max(factors) == 1.0 and factors[100] == pytest.approx(0.01)
    assert all(a >= b for a, b in zip(factors[10:], factors[11:], strict=False))


def test_one_cycle_goes_up_once_and_down_once():
    factors = [one_cycle(step, 100, 30, 0.01) for step in range(101)]
    assert 0.04 < factors[0] < 0.05 and factors[29] == 1.0 and factors[100] == pytest.approx(0.01)
    assert all(a < b for a, b in zip(factors[:29], factors[1:30], strict=False))
    assert all(a >= b for a, b in zip(factors[30:], factors[31:], strict=False))


def test_constant_rises_and_stays():
    found = rates(*made(schedule="constant", warmup=0.1), 100)
    assert found[:10] == pytest.approx([0.1 * k for k in range(1, 11)]) and set(found[10:]) == {1.0}


def test_a_plateau_of_the_objective_lowers_the_rate_down_to_the_floor():
    schedule, optimizer = made(schedule="plateau", warmup=0.0, plateau_patience=1, final_lr=0.2)
    found = []
    for value in [3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]:
        schedule.epoch(value)
        schedule.step()
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_after_its_horizon_a_schedule_keeps_its_last_rate():
    for name in ("cosine", "one_cycle"):
        assert rates(*made(total=10, schedule=name), 30)[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "plateau", "constant"])
def test_a_schedule_goes_on_from_its_state(name):
    whole, optimizer = made(schedule=name, plateau_patience=0, total=30)
    wanted = []
    for step in range(30):
        whole.step()
        whole.epoch(math.sin(step))
        wanted.append(optimizer.param_groups[0]["lr"])
    first, there = made(schedule=name, plateau_patience=0, total=30)
    for step in range(12):
        first.step()
        first.epoch(math.sin(step))
    second, optimizer = made(schedule=name, plateau_patience=0, total=30)
    optimizer.load_state_dict(there.state_dict())
    second.load(first.state())
    found = []
    for step in range(12, 30):
        second.step()
        second.epoch(math.sin(step))
        found.append(optimizer.param_groups[0]["lr"])
    assert found == wanted[12:]


def test_the_state_of_a_plateau_that_saw_no_epoch_is_plain_json():
    schedule, _ = made(schedule="plateau")
    assert schedule.state()["plateau"]["best"] is None
    schedule.load(schedule.state())
    schedule.epoch(1.0)
    assert schedule.state()["plateau"]["best"] == 1.0


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "plateau", "constant"])
def test_every_schedule_is_held_from_a_step_on(name):
    found = rates(*made(schedule=name, held=(60, 0.3), warmup=0.1), 100)
    assert set(found[60:]) == {0.3} and max(found[:60]) == 1.0
    # The warm-up is a share of the whole training.
    assert found.index(1.0) == 9


@pytest.mark.parametrize("best", [-100.0, 0.0, 100.0])
def test_a_plateau_is_one_also_where_the_objective_is_negative(best):
    schedule, _ = made(schedule="plateau", plateau_patience=2)
    for step in range(3):
        schedule.epoch(best + 1e-3 * step)
    assert schedule.reduction == 1.0
    schedule.epoch(best)
    assert schedule.reduction == 0.5
    schedule.epoch(best - 1e-6)
    assert schedule.state()["plateau"]["num_bad_epochs"] == 0
