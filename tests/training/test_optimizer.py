import pytest
import torch
from torch import nn

from ristune.errors import InputError
from ristune.training.config import OptimizerConfig
from ristune.training.optimizer import build_optimizer, diagnosed_groups
from tests.training.conftest import OPTIMIZER


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 1)


def config(**groups):
    return OptimizerConfig(**{**OPTIMIZER, "lr": 0.1, "weight_decay": 0.5, "groups": groups})


def by_name(network, optimizer):
    names = {id(p): name for name, p in network.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_vectors_are_not_decayed():
    network = Network()
    found = by_name(network, build_optimizer(network, config()))
    assert found["head.weight"] == (0.1, 0.5) and found["head.bias"] == (0.1, 0.0)
    assert len(found) == 6


def test_groups_have_rates_and_decays_of_their_own():
    network = Network()
    groups = {
        "first": {"match": ["body.0.*"], "lr": 0.01},
        "heads": {"match": ["head.*"], "lr": 1.0, "weight_decay": 0.0},
    }
    found = by_name(network, build_optimizer(network, config(**groups)))
    assert found == {
        "body.0.weight": (0.01, 0.5),
        "body.0.bias": (0.01, 0.0),
        "body.1.weight": (0.1, 0.5),
        "body.1.bias": (0.1, 0.0),
        "head.weight": (1.0, 0.0),
        "head.bias": (1.0, 0.0),
    }


def test_a_frozen_parameter_is_left_out():
    network = Network()
    network.head.requires_grad_(False)
    assert "head.weight" not in by_name(network, build_optimizer(network, config()))
    network.requires_grad_(False)
    with pytest.raises(InputError, match="task.network: got 'Network'; it must have parameters that require"):
        build_optimizer(network, config())


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(InputError, match=r"optimizer.groups.heads.match: got 'hd.\*'; it must fit.*body.0.w"):
        build_optimizer(Network(), config(heads={"match": ["hd.*"]}))


def test_a_parameter_of_two_groups_is_refused():
    groups = {"a": {"match": ["head.*"]}, "b": {"match": ["*.bias"]}}
    with pytest.raises(InputError, match="optimizer.groups.b.match.*head.bias belongs to the group 'a'"):
        build_optimizer(Network(), config(**groups))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("head.*", "optimizer.groups.g: got 'head.*'; it must be a mapping"),
        ({"lr": 1.0}, "it must be a mapping of match, lr, weight_decay"),
        ({"match": ["a"], "rate": 1.0}, "it must be a mapping of match, lr, weight_decay"),
        ({"match": "a"}, "optimizer.groups.g.match: got 'a'; it must be a list of patterns"),
        ({"match": ["a"], "lr": 0}, "optimizer.groups.g.lr: got 0; it must be a finite number above 0"),
        (
            {"match": ["a"], "weight_decay": -1},
            "optimizer.groups.g.weight_decay: got -1; it must be",
        ),
    ],
)
def test_a_group_that_is_malformed_is_refused(group, message):
    with pytest.raises(InputError) as error:
        config(g=group)
    assert message in str(error.value)


def test_complex_parameters_are_optimised_unfused():
    network = nn.Module()
    network.a = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    assert not build_optimizer(network, config()).defaults["fused"]
    assert build_optimizer(Network(), config()).defaults["fused"]


def test_diagnostics_show_the_modules_on_top_or_the_optimizers_groups():
    names = [name for name, _ in Network().named_parameters()]
    assert {k: len(v) for k, v in diagnosed_groups(names, config()).items()} == {"body": 4, "head": 2}
    grouped = diagnosed_groups(names, config(mine={"match": ["body.1.*", "head.*"]}))
    assert {k: len(v) for k, v in grouped.items()} == {"body": 2, "mine": 4}
