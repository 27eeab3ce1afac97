"""The unrolled network: what passes from stage to stage, and what does not."""

import pytest
import torch

from ristune.nearfield.loss import prediction
from tests.nearfield.conftest import make_task


def parameters_reached(network, value):
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    pairs = zip(names, gradients, strict=True)
    return {name for name, gradient in pairs if gradient is not None and gradient.any()}


def test_each_stage_learns_from_its_own_map_and_k_from_the_last(task, drawn):
    output = task.network(task.prepare(drawn.batch))
    first, last = (parameters_reached(task.network, output["map"][:, stage].sum()) for stage in (0, 1))
    assert all(name.startswith("stages.0.") or name == "sharpness" for name in first) and len(first) > 5
    assert all(name.startswith("stages.1.") for name in last) and len(last) > 5
    counting = parameters_reached(task.network, output["count"].sum())
    assert all(name.startswith(("stages.1.", "count.")) for name in counting)


def test_a_stage_sees_what_the_one_before_leaves_of_the_snapshots(task, drawn):
    """Later stages have the snapshots themselves; the first has only the map of the matched filter."""
    prepared = task.prepare(drawn.batch)
    other = {**prepared, "y": prepared["y"].roll(1, 0), "noise_var": prepared["noise_var"].roll(1, 0)}
    with torch.no_grad():
        one, two = task.network(prepared)["map"], task.network(other)["map"]
    assert torch.equal(one[:, 0], two[:, 0])
    assert not torch.allclose(one[:, 1], two[:, 1], atol=1e-2)


@pytest.mark.parametrize("stages", [1, 3])
def test_there_is_a_map_a_stage_and_the_last_is_the_answer(drawn, stages):
    task = make_task(network={"width": 8, "blocks": 1, "stages": stages})
    task.attach(drawn)
    output = task.network(task.prepare(drawn.batch))
    assert output["map"].shape == (64, stages, 4 * 7 * 11 + 1) and output["count"].shape == (64, 5)
    last = torch.softmax(output["map"][:, stages - 1], dim=1)
    assert torch.equal(prediction(output).gamma, last[:, :-1])
    assert torch.equal(prediction(output).floor, last[:, -1])
