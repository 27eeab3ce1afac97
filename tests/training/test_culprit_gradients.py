"""Gradients that are not finite: the node, the term, the parameters, and the line are named."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.training.planted import OnX, Planted, batch, found, line_of, linear, zero


def eigenvector_loss(output, batch):
    matrix = torch.eye(4) + output.mean() * torch.eye(4)
    _, vectors = torch.linalg.eigh(matrix)
    return {
        "fit": output.square().mean(),
        "subspace": (vectors[:, :2] @ vectors[:, :2].T)[0, 1] + vectors[0, 1],
    }


def test_eigenvectors_of_equal_eigenvalues_are_named():
    (finding,) = found(Planted(linear(), eigenvector_loss))
    assert (finding.stage, finding.term, finding.operation) == ("backward", "subspace", "LinalgEighBackward0")
    assert finding.parameters == ("body.weight", "body.bias")
    assert finding.module is None
    assert finding.where.startswith(line_of(__file__, "_, vectors = torch.linalg.eigh(matrix)"))
    assert "NaN" in finding.detail and "eigenvectors" in finding.remedy and "projector" in finding.remedy


def test_a_root_of_zero_is_named_and_not_the_node_after_it():
    task = Planted(zero(), lambda output, batch: {"rms": (output * 0).sqrt().mean()})
    (finding,) = found(task)
    assert (finding.term, finding.operation) == ("rms", "SqrtBackward0")
    assert "what it keeps of its forward call is 0 in magnitude" in finding.detail
    assert "before the root" in finding.remedy


def masked_log(output, batch):
    kept = torch.where(output > 0, output.log(), 0)
    return {"entropy": kept.mean()}


def test_a_log_under_a_mask_is_named_with_the_line_of_the_log():
    (finding,) = found(Planted(zero(), masked_log))
    assert (finding.stage, finding.operation) == ("backward", "LogBackward0")
    assert finding.where == (
        line_of(__file__, "kept = torch.where(")
        + " in masked_log: kept = torch.where(output > 0, output.log(), 0)"
    )
    assert "before the log" in finding.remedy


class Root(nn.Module):
    def forward(self, x):
        return (x - x).sqrt()


def test_the_module_whose_forward_made_the_node_is_named():
    network = OnX(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), Root()), nn.Linear(4, 4)))
    (finding,) = found(Planted(network, lambda output, batch: {"mean": output.mean()}))
    assert (finding.operation, finding.module) == ("SqrtBackward0", "body.1.1")
    assert finding.parameters == ("body.0.weight", "body.0.bias")
    assert finding.where.endswith("in forward: return (x - x).sqrt()")


def test_a_node_made_before_a_submodule_is_called_is_not_put_down_to_it():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, batch):
            hidden = self.first(batch["x"])
            return self.second((hidden - hidden).sqrt())

    (finding,) = found(Planted(Outer(), lambda output, batch: {"mean": output.mean()}))
    assert (finding.operation, finding.module) == ("SqrtBackward0", "network")


def test_an_overflow_by_the_scale_of_half_precision_is_told_from_a_fault_of_the_task():
    task = Planted(linear(), lambda output, batch: {"sum": output.sum()})
    assert found(task, precision="fp16", scale=1024.0) == []
    (finding,) = found(task, precision="fp16", scale=2.0**17)
    assert (finding.stage, finding.term, finding.operation) == ("backward", "sum", "ToCopyBackward0")
    assert finding.where is None and "in float16" in finding.detail
    assert "fp16 gradient overflow at scale 131072, finite in fp16 at scale 1" in finding.detail
    assert "lower its scale" in finding.remedy


def test_an_overflow_at_every_scale_asks_for_another_precision():
    task = Planted(linear(), lambda output, batch: {"sum": 1e6 * output.sum()})
    (finding,) = found(task, precision="fp16", scale=2.0)
    assert "finite in fp32" in finding.detail and "not finite in fp16 at scale 1 either" in finding.detail
    assert "bf16 or fp32" in finding.remedy
    (finding,) = found(task, precision="fp16")
    assert finding.detail.endswith("finite in fp32: fp16 gradient overflow")


def test_a_fault_in_every_precision_is_not_put_down_to_the_precision():
    (finding,) = found(Planted(zero(), masked_log), precision="fp16", scale=1024.0)
    assert finding.operation == "LogBackward0"
    assert finding.detail.endswith("not finite in fp32 at scale 1 either") and "log" in finding.remedy


def test_only_the_guilty_term_is_named():
    def loss(output, batch):
        return {"innocent": output.square().mean(), "guilty": (output * 0).sqrt().mean()}

    assert [finding.term for finding in found(Planted(linear(), loss))] == ["guilty"]


def test_terms_that_only_their_sum_overflows_are_both_cleared():
    def loss(output, batch):
        return {"a": 4e4 * output[0].mean() * 4, "b": 4e4 * output[0].mean() * 4}

    (finding,) = found(Planted(linear(), loss), precision="fp16")
    assert (finding.stage, finding.term) == ("backward", None)
    assert finding.parameters == ("body.weight", "body.bias")
    assert "each term's gradient is finite, but not their sum's" in finding.detail


def test_a_sum_of_gradients_between_two_nodes_is_named_as_such():
    def loss(output, batch):
        doubled = output * 1.0
        return {"sum": (doubled * 3e38).mean() * 32 + (doubled * 3e38).mean() * 32}

    network = zero()
    (finding,) = found(Planted(network, loss))
    assert finding.operation == "MulBackward0"
    assert "a sum of finite gradients" in finding.detail


def test_a_norm_that_overflows_over_finite_gradients_is_found():
    (finding,) = found(Planted(linear(), lambda output, batch: {"sum": 1e30 * output.sum()}))
    assert finding.operation == "norm" and finding.parameters == ()
    assert (
        "norm overflows" in finding.detail
        and "body.weight" in finding.detail
        or "body.bias" in finding.detail
    )


def test_a_sum_over_micro_batches_that_overflows_is_found():
    task = Planted(linear(), lambda output, batch: {"sum": 3e37 * output.sum()})
    (finding,) = found(task, batch(), batch(), scale=2.0)
    assert (finding.operation, finding.parameters) == ("sum", ("body.bias",))


def test_a_bad_micro_batch_is_counted_and_the_same_fault_is_told_once():
    def loss(output, batch):
        return {"rms": (output * batch["gain"]).square().mean().sqrt()}

    good, bad = batch(gain=torch.ones(8, 1)), batch(gain=torch.zeros(8, 1))
    (finding,) = found(Planted(linear(), loss), good, bad, bad)
    assert finding.detail.startswith("micro-batch 2 of 3: ")


def test_a_column_that_only_the_gradient_sees_is_held_to_account():
    def loss(output, batch):
        error = output - batch["label"][:, None]
        return {"squared": torch.where(error.isfinite(), error.square(), 0).mean()}

    label = torch.zeros(8)
    label[3] = torch.nan
    column, node = found(Planted(linear(), loss), batch(label=label))
    assert column.stage == "input"
    assert "'label'" in column.detail and "1 of 8 rows (3)" in column.detail
    assert "the gradient of 'squared', which is finite once finite rows are in their place" in column.detail
    assert node.stage == "backward" and node.operation == "PowBackward0"
    assert "of its forward call it keeps a tensor with 4 of 32 values NaN" in node.detail


def test_a_column_without_which_the_loss_itself_is_not_finite_is_not_held_to_account():
    def loss(output, batch):
        holed = batch["label"].isnan().any()
        return {"odd": (output * 0).sqrt().mean() if holed else output.mean() * torch.inf}

    label = torch.zeros(8)
    label[3] = torch.nan
    node, column = found(Planted(linear(), loss), batch(label=label))
    assert "no loss term is affected by it" in column.detail
    assert node.stage == "backward"


def test_a_hook_that_spoils_a_parameters_gradient_is_found():
    network = linear()
    network.body.weight.register_hook(lambda gradient: gradient * torch.inf)
    (finding,) = found(Planted(network, lambda output, batch: {"mean": output.mean()}))
    assert finding.parameters == ("body.weight",) and "hook" in finding.detail
    assert finding.operation == "AccumulateGrad" and "hooks" in finding.remedy


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_activations_are_no_obstacle(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.before = nn.Linear(4, 4)
            self.body = nn.Sequential(nn.Linear(4, 4), Root())

        def forward(self, batch):
            hidden = self.before(batch["x"])
            return checkpoint(self.body, hidden, use_reentrant=reentrant)

    (finding,) = found(Planted(Checkpointed(), lambda output, batch: {"mean": output.mean()}))
    assert finding.operation == ("CheckpointFunctionBackward" if reentrant else "SqrtBackward0")
    assert "before.weight" in finding.parameters and "body.0.weight" in finding.parameters


def test_a_loss_that_differentiates_is_followed():
    def loss(output, batch):
        inputs = batch["x"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(task.network({"x": inputs}).square().sum(), inputs, create_graph=True)
        penalty = (slope - slope.detach()).square().sum().sqrt()
        return {"fit": output.mean(), "penalty": penalty}

    task = Planted(linear(), loss)
    (finding,) = found(task)
    assert (finding.term, finding.operation) == ("penalty", "SqrtBackward0")
    assert finding.where.endswith("penalty = (slope - slope.detach()).square().sum().sqrt()")


def test_a_loss_whose_own_differentiation_gives_nan_is_not_stopped():
    def loss(output, batch):
        inputs = torch.zeros(4, requires_grad=True)
        (slope,) = torch.autograd.grad((inputs * inputs).sqrt().sum(), inputs)
        return {
            "fit": output.mean() + torch.where(slope.isnan(), 0, slope).sum(),
            "rms": (output * 0).sqrt().mean(),
        }

    (finding,) = found(Planted(linear(), loss))
    assert (finding.term, finding.operation) == ("rms", "SqrtBackward0")


def test_causes_come_in_the_order_of_the_pipeline_whichever_micro_batch_has_them():
    def loss(output, batch):
        return {"rms": (output * batch["gain"]).square().mean().sqrt(), "log": batch["level"].log().mean()}

    def columns(gain, level):
        return batch(gain=torch.full((8, 1), gain), level=torch.full((8,), level))

    findings = found(Planted(linear(), loss), columns(0.0, 1.0), columns(1.0, 0.0))
    assert [finding.stage for finding in findings] == ["loss", "backward"]
