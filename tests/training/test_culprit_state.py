"""An investigation leaves all as it found it, and each of its passes sees the same."""

import random

import numpy as np
import torch
from torch import nn

from ristune.training.forward import forward
from tests.training.planted import CPU, OnX, Planted, batch, found


def noisy_loss(output, batch):
    # Every generator decides whether the term is finite.
    draws = torch.rand(()) + np.random.rand() + random.random()
    return {"noisy": (output * 0 + draws).log().mean() / 0, "root": (output * 0).sqrt().mean()}


def task():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))
    body[3].eval()
    return Planted(OnX(body), noisy_loss)


def test_weights_buffers_gradients_modes_and_random_states_are_left_as_found():
    planted = task()
    network = planted.network
    network.body[0].weight.grad = torch.full((4, 4), 3.0)
    gradient = network.body[0].weight.grad
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    columns = batch()
    kept = columns["x"].clone()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    after = (torch.rand(3).tolist(), np.random.rand(), random.random())
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    findings = found(planted, columns, batch(rows=5))
    assert {finding.stage for finding in findings} == {"loss", "backward"}
    assert (torch.rand(3).tolist(), np.random.rand(), random.random()) == after
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert network.body[0].weight.grad is gradient and gradient.tolist() == [[3.0] * 4] * 4
    assert all(p.grad is None for name, p in network.named_parameters() if name != "body.0.weight")
    assert torch.equal(columns["x"], kept)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert not torch.is_anomaly_enabled()


def test_each_pass_sees_the_random_numbers_and_buffers_of_the_window():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, batch):
            self.calls = self.calls + 1
            seen.append((len(batch["x"]), self.calls.item(), torch.rand(()).item(), random.random()))
            self.training = False
            if torch.is_autocast_enabled("cpu"):
                torch.rand(())  # the passes in fp32 leave another state behind them
            return (batch["x"] * self.weight).sqrt()

    network = Spy()
    planted = Planted(network, lambda output, batch: {"mean": output.mean()})
    before = torch.get_rng_state(), random.getstate()
    for columns in (batch(8), batch(5)):
        forward(planted, columns, "fp16", CPU)
    window = set(seen)
    torch.set_rng_state(before[0]), random.setstate(before[1])
    nn.Module.train(network).calls.zero_()
    assert found(planted, batch(8), batch(5), precision="fp16", scale=4.0)
    assert len(seen) > 6 and set(seen) == window
    assert {(rows, calls) for rows, calls, _, _ in seen} == {(8, 1.0), (5, 2.0)}
    assert network.calls.item() == 0 and network.training


def test_a_task_that_writes_over_its_columns_does_not_change_them():
    columns = batch()
    kept = columns["x"].clone()

    def prepare(batch):
        batch["x"].sub_(batch["x"].clone()).reciprocal_()
        return batch

    planted = Planted(OnX(nn.Linear(4, 4)), lambda output, batch: {"mean": output.mean()}, prepare)
    (finding,) = found(planted, columns)
    assert (finding.stage, finding.operation) == ("prepare", "aten.reciprocal_")
    assert torch.equal(columns["x"], kept)


def test_an_investigation_that_fails_leaves_all_as_found_too():
    planted = task()

    def loss(output, batch):
        raise RuntimeError("planted failure")

    planted.loss = loss
    before = planted.network.body[1].running_mean.clone()
    state = torch.get_rng_state()
    try:
        found(planted)
    except RuntimeError as error:
        assert str(error) == "planted failure"
    assert torch.equal(planted.network.body[1].running_mean, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in planted.network.modules())
