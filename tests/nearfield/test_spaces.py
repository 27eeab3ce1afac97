"""Every value that a shipped space searches must change the trial: a dead dimension wastes the search."""

import pytest
import torch
import yaml

from ristune.config import compose, config_dir
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.trial import prepare
from tests.nearfield.conftest import simulator

SPACES = {
    name: yaml.safe_load((config_dir() / "space" / f"{name}.yaml").read_text())
    for name in ("quick", "narrow", "wide")
}
PATHS = sorted({path for space in SPACES.values() for path in space})


def ends(path):
    """Two values far apart."""
    spec = next(space[path] for space in SPACES.values() if path in space)
    values = spec.get("choices", [spec.get("low"), spec.get("high")])
    return values[0], values[-1]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("spaces") / "data")
    write_dataset(uri, Simulated(simulator(), {"train": 96, "val": 32, "test": 32}, 1))
    # The blend has a weight, as it has where beta is searched.
    settings = ["task.grid=[3,5,7]", "training.epochs=2", "task.loss.nmse_blend=0.5", "task.network.width=16"]
    return compose([f"data.uri={uri}", "training.batch_size=16", "training.device=cpu", *settings])


def weights_after(config):
    trial = prepare(config, print)
    for _ in trial.run():
        pass
    return {name: p.detach() for name, p in trial.task.network.named_parameters()}


@pytest.mark.parametrize("path", PATHS)
def test_a_searched_value_changes_the_trial(base, path):
    one, other = (weights_after(base.with_values({path: value})) for value in ends(path))
    same_shapes = {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    assert not same_shapes or any(not torch.equal(one[name], other[name]) for name in one)


def test_the_same_values_give_the_same_trial(base):
    one, other = weights_after(base), weights_after(base)
    assert all(torch.equal(one[name], other[name]) for name in one)
