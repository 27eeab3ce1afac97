import math

import pytest
import torch
from torch import nn

from ristune.training.average import Average
from ristune.training.config import OptimizerConfig, TrainingConfig
from ristune.training.schedule import Schedule
from ristune.training.step import GuardedStep
from tests.training.conftest import OPTIMIZER, TRAINING

CPU = torch.device("cpu")


class Made:
    """A guarded step over two named parameters, one of them in a normalisation with statistics."""

    def __init__(self, fused=True, clip_norm=1e9, scale=None, average="ema"):
        self.network = nn.ModuleDict({"head": nn.Linear(2, 1, bias=False), "norm": nn.BatchNorm1d(2)})
        nn.init.zeros_(self.network["head"].weight)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.5, weight_decay=0, fused=fused)
        config = OptimizerConfig(**{**OPTIMIZER, "warmup": 0.0, "final_lr": 0.0})
        self.schedule = Schedule(self.optimizer, config, total=10)
        self.average = Average(self.network, TrainingConfig(**{**TRAINING, "average": average}))
        self.scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, init_scale=scale or 1.0)
        self.step = GuardedStep(
            self.network, self.optimizer, self.schedule, self.average, clip_norm, self.scaler, CPU
        )

    def window(self, *losses, x=None):
        self.step.begin()
        if x is not None:
            self.network["norm"](x)
        made = [loss(self.network["head"].weight) for loss in losses]
        for loss in made:
            self.step.backward(loss, 1 / len(made))
        terms = [{"term": loss.detach()} for loss in made]
        return self.step.update([loss.detach() for loss in made], terms)

    def everything(self):
        """All that a step may move."""
        found = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        found |= {f"average.{k}": v for k, v in self.average.tensors().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            found |= {f"moments.{number}.{k}": v for k, v in state.items()}
        found["lr"] = torch.tensor(self.optimizer.param_groups[0]["lr"])
        return {k: v.clone() for k, v in found.items()}


def linear(weight):
    return (weight * torch.tensor([3.0, 4.0])).sum()


def infinite_loss(weight):
    return linear(weight) + math.inf


def infinite_gradient(weight):
    # sqrt at 0: the loss stays finite, the gradient does not.
    return linear(weight) + (weight * 0).square().sum().sqrt()


both = pytest.mark.parametrize("fused", [True, False])


@both
def test_a_finite_step_is_clipped_to_the_norm_and_reports_the_norm_before(fused):
    made = Made(fused, clip_norm=1.0)
    attempt = made.window(linear)
    # Those of BatchNorm, which is in no loss here, come last.
    assert attempt.norms.tolist() == pytest.approx([5.0, 0.0, 0.0])
    gradient = made.network["head"].weight.grad
    assert gradient.flatten().tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    result = made.step.settle(attempt)
    assert result.taken and result.norm == pytest.approx(5.0)


@both
@pytest.mark.parametrize("bad", [infinite_loss, infinite_gradient])
def test_weights_moments_schedule_average_and_buffers_advance_together_or_not_at_all(fused, bad):
    made = Made(fused)
    for _ in range(2):
        assert made.step.settle(made.window(linear, x=torch.randn(8, 2))).taken
    before = made.everything()
    result = made.step.settle(made.window(bad, x=torch.full((8, 2), math.nan)))
    after = made.everything()
    assert not result.taken
    assert {k for k in before if not torch.equal(before[k], after[k])} == set()
    assert made.step.settle(made.window(linear, x=torch.randn(8, 2))).taken
    moved = made.everything()
    still = {k for k in after if torch.equal(after[k], moved[k])}
    # BatchNorm's own weights are in no loss here; the average takes its buffers at the end of an epoch.
    wanted = {k for k in after if k.startswith(("network.norm.", "average.module.norm."))}
    assert still == wanted - {
        f"network.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_never_made_finite(bad):
    made = Made()
    weight = made.network["head"].weight
    weight.register_hook(lambda gradient: gradient * torch.tensor([1.0, bad]))
    result = made.step.settle(made.window(linear))
    assert not result.taken and result.reason == "the gradient of head.weight is not finite"
    assert weight.flatten().tolist() == [0.0, 0.0]


def test_the_loss_term_that_is_not_finite_is_named():
    made = Made()
    result = made.step.settle(made.window(infinite_loss))
    assert result.reason == "loss term 'term' is inf" and not result.calibrating


def test_terms_that_overflow_only_together_are_told_so():
    made = Made()
    made.step.begin()
    huge = made.network["head"].weight.sum() + 3e38
    made.step.backward(huge, 1.0)
    attempt = made.step.update([torch.tensor(math.inf)], [{"a": huge.detach(), "b": huge.detach()}])
    assert made.step.settle(attempt).reason == "each loss term is finite, their sum is not"


def test_an_update_waits_for_no_flag():
    """The flag is read by `settle` alone, so that on a GPU the host may run ahead."""
    made = Made()
    made.step.settle(made.window(linear))
    before = made.everything()
    attempt = made.window(linear)
    after = made.everything()
    assert torch.equal(before["lr"], after["lr"])
    assert not torch.equal(before["network.head.weight"], after["network.head.weight"])
    made.step.settle(attempt)
    assert not torch.equal(before["lr"], made.everything()["lr"])


def test_two_windows_may_be_under_way():
    made = Made()
    first = made.window(linear)
    made.step.begin()
    loss = infinite_gradient(made.network["head"].weight)
    made.step.backward(loss, 1.0)
    assert made.step.settle(first).taken
    second = made.step.update([loss.detach()], [{"term": loss.detach()}])
    assert not made.step.settle(second).taken


def test_a_scaler_that_is_still_too_large_calibrates_and_is_told_from_a_fault():
    made = Made(scale=2.0**127)
    results = []
    while not results or not results[-1].taken:
        results.append(made.step.settle(made.window(linear)))
    assert len(results) > 1 and all(r.calibrating for r in results[:-1])
    assert results[0].scale == 2.0**127 and results[-1].scale < 2.0**127
    assert "is not finite at scale 1.70141e+38" in results[0].reason
    assert not made.step.settle(made.window(infinite_loss)).calibrating


def test_gradients_are_unscaled_before_they_are_clipped():
    made = Made(scale=1024.0, clip_norm=1.0)
    assert made.step.settle(made.window(linear)).norm == pytest.approx(5.0)


def test_losses_and_terms_of_each_micro_batch_reach_the_host_with_the_flag():
    made = Made()
    result = made.step.settle(made.window(linear, lambda weight: linear(weight) + 2))
    assert result.losses == [{"term": 0.0, "loss": 0.0}, {"term": 2.0, "loss": 2.0}]


def test_a_term_that_is_called_loss_is_named_as_any_other():
    made = Made()
    made.step.begin()
    bad = made.network["head"].weight.sum() * math.nan
    made.step.backward(bad, 1.0)
    attempt = made.step.update([bad.detach()], [{"loss": bad.detach()}])
    assert made.step.settle(attempt).reason == "loss term 'loss' is nan"


def test_norms_that_are_finite_each_and_overflow_together_are_a_fault():
    made = Made()
    huge = made.window(lambda weight: 1.5e19 * (weight[0, 0] + made.network["norm"].weight[0]))
    assert huge.norms.isfinite().all()
    result = made.step.settle(huge)
    assert (result.taken, result.reason) == (False, "the global gradient norm is inf")
