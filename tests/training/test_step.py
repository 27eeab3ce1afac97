import math

import pytest
import torch
from torch import nn

from ristune.errors import InputError
from ristune.training.device import resolve_precision
from ristune.training.forward import forward, full_precision, total_loss
from ristune.training.optimizer import warmup_cosine
from ristune.training.step import GuardedStep
from tests.toy import ToyTask
from tests.training.conftest import samples

CPU = torch.device("cpu")


def make_step(parameter, clip_norm=1e9, precision="fp32"):
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    return GuardedStep([parameter], optimizer, scheduler, clip_norm, precision, CPU), scheduler


def test_outputs_and_labels_reach_the_loss_in_full_precision():
    class HalfTask(ToyTask):
        def prepare(self, batch):
            return {**batch, "half": batch["x"].half(), "wave": torch.complex(batch["x"], batch["x"])}

    output, batch = forward(HalfTask(width=4, scale=1.0), samples(8), "bf16", CPU)
    assert output.dtype == torch.float32
    assert {k: v.dtype for k, v in batch.items()} == {
        "x": torch.float32,
        "target": torch.float32,
        "half": torch.float32,
        "wave": torch.complex64,
    }


def test_the_network_runs_in_the_precision_that_is_asked_for():
    seen = []

    class Spy(nn.Linear):
        def forward(self, batch):
            result = super().forward(batch["x"])
            seen.append(result.dtype)
            return result

    task = ToyTask(width=4, scale=1.0)
    task.network = Spy(2, 1)
    forward(task, samples(4), "bf16", CPU)
    forward(task, samples(4), "fp32", CPU)
    assert seen == [torch.bfloat16, torch.float32]


def test_integers_are_left_alone():
    assert full_precision(torch.tensor([1, 2])).dtype == torch.int64


def test_auto_is_full_precision_on_the_cpu():
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"


def test_a_finite_step_is_clipped_to_the_norm_and_reports_the_norm_before():
    parameter = nn.Parameter(torch.zeros(2))
    step, scheduler = make_step(parameter, clip_norm=1.0)
    result = step((parameter * torch.tensor([3.0, 4.0])).sum())
    assert result.taken and result.grad_norm == pytest.approx(5.0)
    assert parameter.tolist() == pytest.approx([-0.6, -0.8], abs=1e-5)
    assert scheduler.get_last_lr() == [0.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_never_made_finite(bad):
    parameter = nn.Parameter(torch.zeros(2))
    step, scheduler = make_step(parameter)
    parameter.register_hook(lambda gradient: gradient * torch.tensor([1.0, bad]))
    result = step(parameter.sum())
    assert not result.taken and "gradient norm" in result.reason
    assert parameter.tolist() == [0.0, 0.0]
    assert scheduler.get_last_lr() == [1.0]


def test_a_loss_that_is_not_finite_is_named():
    parameter = nn.Parameter(torch.zeros(2))
    step, _ = make_step(parameter)
    result = step(parameter.sum() + math.inf)
    assert not result.taken and result.reason == "the loss is inf"


def test_terms_are_summed_and_must_be_scalars():
    assert total_loss({"a": torch.tensor(1.0), "b": torch.tensor(2.5)}).item() == 3.5
    with pytest.raises(InputError, match=r"task.loss: 'a': got \(2,\); each term must be a scalar"):
        total_loss({"a": torch.ones(2)})
    for wrong in ({}, torch.tensor(1.0)):
        with pytest.raises(InputError, match="task.loss: got .*at least one named term"):
            total_loss(wrong)


def test_the_schedule_rises_to_one_and_falls_to_its_floor():
    factors = [warmup_cosine(step, 100, 0.1, 0.01) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert max(factors) == 1.0 and factors[100] == pytest.approx(0.01)
    assert all(a >= b for a, b in zip(factors[10:], factors[11:], strict=False))
