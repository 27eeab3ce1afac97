"""Losses that are not finite: the operation, module, line and input are named."""

import pytest
import torch
from torch import nn

from tests.training import planted
from tests.training.planted import OnX, Planted, Ratio, batch, found, line_of, linear, mean, zero


def test_a_finite_window_has_no_culprit():
    assert found(Planted(linear(), mean), batch(), batch(rows=3)) == []


class Loud(nn.Module):
    def forward(self, x):
        return self.gain(x) - self.gain(x)

    def __init__(self):
        super().__init__()
        self.gain = nn.Linear(4, 4)
        nn.init.constant_(self.gain.weight, 5e4)


def test_an_overflow_of_half_precision_names_the_module_and_fp16():
    task = Planted(OnX(nn.Sequential(nn.Identity(), Loud())), mean)
    (finding,) = found(task, precision="fp16")
    assert (finding.stage, finding.term, finding.operation) == ("forward", None, "aten.addmm")
    assert finding.module == "body.1.gain"
    assert "inf in float16" in finding.detail and "5e+04 in magnitude" in finding.detail
    assert "in fp32 is finite: fp16 overflow" in finding.detail
    assert "bf16 or fp32" in finding.remedy
    assert finding.where.endswith("in forward: return self.gain(x) - self.gain(x)")


def test_an_underflow_of_half_precision_is_called_one():
    class Log(nn.Module):
        def forward(self, x):
            return (x.half() * 1e-9).log() if torch.is_autocast_enabled("cpu") else (x * 1e-9).log()

    (finding,) = found(Planted(OnX(Log()), mean), precision="fp16")
    assert finding.operation == "aten.log" and "fp16 underflow" in finding.detail


def test_what_bf16_has_too_few_digits_for_is_not_called_an_overflow():
    class Gap(nn.Module):
        def forward(self, x):
            return 1 / (x - 1)

    network = OnX(nn.Sequential(zero().body, Gap()))
    nn.init.constant_(network.body[0].bias, 1.001)
    assert found(Planted(network, mean)) == []
    (finding,) = found(Planted(network, mean), precision="bf16")
    assert (finding.operation, finding.module) == ("aten.reciprocal", "body.1")
    assert "the same pass in fp32 is finite: bf16 is too coarse" in finding.detail
    assert finding.remedy.startswith("train in fp32, or")


def test_a_division_by_zero_names_the_submodule_it_is_in():
    network = OnX(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), Ratio()), nn.Linear(4, 1)))
    (finding,) = found(Planted(network, mean))
    assert (finding.stage, finding.operation, finding.module) == ("forward", "aten.div", "body.1.1")
    assert (
        finding.where == f"{line_of(planted.__file__, 'return x / (x - x)')} in forward: return x / (x - x)"
    )
    assert "it makes the loss term 'mean'" in finding.detail


def test_the_networks_own_forward_is_called_network():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 1)

        def forward(self, batch):
            return self.body(batch["x"]) / 0

    (finding,) = found(Planted(Bare(), mean))
    assert (finding.operation, finding.module) == ("aten.div", "network")


@pytest.mark.parametrize(
    ("term", "operation", "value"),
    [
        (lambda output: output.log().mean(), "aten.log", "-inf"),
        (lambda output: output.sum() / output.sum(), "aten.div", "nan"),
        (lambda output: (output - 1).sqrt().mean(), "aten.sqrt", "nan"),
        (lambda output: (output + 100).exp().mean(), "aten.exp", "inf"),
    ],
)
def test_a_term_that_is_not_finite_is_named_with_its_operation(term, operation, value):
    def loss(output, batch):
        return {"innocent": output.square().mean(), "guilty": term(output)}

    (finding,) = found(Planted(zero(), loss))
    assert (finding.stage, finding.term, finding.operation) == ("loss", "guilty", operation)
    assert ("some negative" in finding.detail) == (operation == "aten.sqrt")
    assert finding.detail.endswith(f"the term is {value}") and finding.where.startswith(
        "test_culprit_values.py:"
    )


class Attention(nn.Module):
    def __init__(self, break_it):
        super().__init__()
        self.project = nn.Linear(4, 4)
        self.register_buffer("mask", torch.full((8, 8), -torch.inf).triu(1))
        self.break_it = break_it

    def forward(self, x):
        scores = self.project(x) @ x.T + self.mask
        scores = scores.masked_fill(torch.ones(8, 8, dtype=torch.bool).triu(2), -torch.inf)
        scores = scores + torch.ones(8, 8).tril().log()
        weights = scores.softmax(-1)
        return (weights @ x - x[:1]) / (0 if self.break_it else 1)


@pytest.mark.parametrize("inside", [True, False])
def test_a_mask_of_infinities_is_not_blamed_for_a_fault_beside_it(inside):
    task = Planted(OnX(Attention(inside)), lambda output, _: {"log": output.mean() / (1 if inside else 0)})
    (finding,) = found(task)
    assert finding.operation == "aten.div"
    assert (finding.stage, finding.module) == (("forward", "body") if inside else ("loss", None))


def test_a_mask_made_by_a_log_is_told_from_an_overflow_that_it_is_added_to():
    def loss(output, batch):
        mask = torch.ones(8, 4).tril().log()
        return {"choice": ((output + 100).exp() + mask).softmax(-1).square().mean()}

    (finding,) = found(Planted(zero(), loss))
    assert finding.operation == "aten.exp"


def test_a_row_that_is_masked_altogether_blames_the_softmax():
    def loss(output, batch):
        hidden = torch.zeros(8, 4, dtype=torch.bool)
        hidden[2] = True
        return {"choice": output.masked_fill(hidden, -torch.inf).softmax(-1).mean()}

    (finding,) = found(Planted(linear(), loss))
    assert finding.operation == "aten._softmax" and "unmasked" in finding.remedy
    assert "hold inf from aten.masked_fill" in finding.detail


def test_an_infinity_that_the_task_puts_there_is_named_if_it_reaches_the_loss():
    def loss(output, batch):
        return {"worst": output.masked_fill(output > -9, torch.inf).mean()}

    (finding,) = found(Planted(linear(), loss))
    assert finding.operation == "aten.masked_fill" and finding.where.startswith("test_culprit_values.py:")


def test_a_constant_of_the_task_that_is_not_finite_is_named():
    table = torch.tensor([1.0, torch.nan])
    (finding,) = found(Planted(linear(), lambda output, batch: {"mean": (output.mean() * table).sum()}))
    assert finding.operation == "constant" and "a constant tensor has 1 of 2 values NaN" in finding.detail


def test_a_write_in_place_is_followed():
    def loss(output, batch):
        values = output.detach() * 0 + 1
        values[1].sub_(1).reciprocal_()
        return {"mean": output.mean() + values.view(-1).sum()}

    (finding,) = found(Planted(linear(), loss))
    assert (
        finding.operation == "aten.reciprocal_" and "its inputs are finite, 0 in magnitude" in finding.detail
    )


def test_an_operation_that_returns_nothing_is_followed():
    def loss(output, batch):
        values = torch.zeros(4)
        torch._foreach_reciprocal_([values])
        return {"mean": output.mean() + values.mean()}

    (finding,) = found(Planted(linear(), loss))
    assert finding.operation == "aten._foreach_reciprocal_"


def test_memory_that_is_written_over_is_no_input():
    def loss(output, batch):
        buffer = torch.empty(8, 4).fill_(torch.nan)
        torch.log(output.detach() * 0, out=buffer)
        half = torch.empty(8, 4, dtype=torch.float16).fill_(torch.nan)
        half.copy_(output.detach() + 1e6)
        return {"log": output.mean() + buffer.mean(), "half": output.mean() + half.mean()}

    log, half = found(Planted(zero(), loss))
    assert (log.term, log.operation) == ("log", "aten.log")
    assert "its inputs are finite, 0 in magnitude" in log.detail
    assert (half.term, half.operation) == ("half", "aten.copy_")
    assert "inf in float16; its inputs are finite, 1e+06 in magnitude" in half.detail


def test_finite_terms_whose_sum_is_not_are_told():
    def loss(output, batch):
        return {"a": output.mean() + 3e38, "b": output.mean() + 3e38}

    (finding,) = found(Planted(linear(), loss))
    assert (finding.stage, finding.term, finding.operation) == ("loss", None, "sum")
    assert "'a' 3e+38, 'b' 3e+38" in finding.detail


def test_a_fault_that_reaches_two_terms_is_told_once_with_both():
    def loss(output, batch):
        return {"mean": output.mean(), "power": output.square().mean(), "innocent": batch["x"].mean()}

    (finding,) = found(Planted(OnX(Ratio()), loss))
    assert "it makes the loss term 'mean' inf and the loss term 'power' inf" in finding.detail


def test_a_division_by_a_count_of_zero_tells_of_the_zero():
    def loss(output, batch):
        kept = batch["x"] > 2
        return {"kept": output.sum() / kept.sum()}

    (finding,) = found(Planted(linear(), loss))
    assert finding.operation == "aten.div" and "its inputs are finite, 0 to " in finding.detail
