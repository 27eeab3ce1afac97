"""Estimators side by side: the same scenes whatever the batches, the bound of each, and what it costs."""

import time

import numpy as np
import pytest
import torch

from ristune.nearfield.bound import Sources, conditional_bound, unconditional_bound
from ristune.nearfield.geometry import angles, positions
from ristune.nearfield.measuring import BY_LIKELIHOOD, BY_NETWORK, TOGETHER, compare, true_bound
from ristune.nearfield.scene import true_points
from ristune.training.forward import forward
from tests.nearfield.conftest import Drawn, make_task, scene_sampler, simulator


def predict_with(task):
    def predict(batch):
        with torch.no_grad():
            return forward(task, batch, "fp32", torch.device("cpu"))

    return predict


def test_the_same_scenes_are_compared_whatever_the_batches(task, drawn):
    def of(*parts):
        batches = [{k: v[part] for k, v in drawn.batch.items()} for part in parts]
        return compare(task, batches, predict_with(task), 24)

    one, two = of(slice(0, 64)), of(slice(0, 10), slice(10, 64))
    assert len(one.snr_db) == 24 and len(one.all_snr_db) == 64
    assert torch.equal(one.snr_db, drawn.batch["snr_db"][:24])
    for name, score in one.scores.items():
        assert np.array_equal(score.truths, drawn.batch["num_sources"][:24].numpy())
        # Sums of other lengths differ in the last bit: a few scenes may end elsewhere.
        assert (score.hit != two.scores[name].hit).sum() <= 2, name
    assert torch.allclose(one.bound.azimuth, two.bound.azimuth, equal_nan=True)
    assert TOGETHER < 24


def test_what_an_estimator_needs_before_it_starts_is_part_of_its_time(task, drawn):
    prepare = task.prepare

    def prepare_slowly(batch):
        time.sleep(0.2)
        return prepare(batch)

    task.prepare = prepare_slowly
    late = compare(task, [drawn.batch], predict_with(task), 16)
    wait = 200 / 16
    needs = {name for name in late.scores if name not in BY_LIKELIHOOD}
    assert all(late.milliseconds[name] > wait for name in needs)
    # These take snapshots, channel and codes as they come, or are told R.
    assert set(BY_LIKELIHOOD) == {
        "maximum likelihood",
        "maximum likelihood, exchanged",
        "maximum likelihood: K by BIC",
        "sparse Bayesian learning",
        "MUSIC: ORACLE R_true",
    }
    assert all("network" in name for name in BY_NETWORK) and set(BY_NETWORK) <= needs


@pytest.mark.parametrize("model", ["iid", "static"])
def test_the_bound_is_that_of_each_scene(model):
    drawn = Drawn(simulator(scene_sampler(source_model=model), snr_db=(10, 10)), rows=20)
    task = make_task()
    task.attach(drawn)
    batch = task.prepare(drawn.batch)
    data = task.observation(batch)
    found = true_bound(task, data, batch)
    for scene in range(20):
        count = int(batch["num_sources"][scene])
        labels = {n: batch[n][scene : scene + 1, :count].double() for n in ("azimuth", "elevation", "range")}
        power, phase = (batch[n][scene : scene + 1, :count].double() for n in ("power", "phase"))
        one, sources = data.of(torch.tensor([scene])), Sources(**labels)
        if model == "iid":
            wanted = unconditional_bound(one.h, one.codes, sources, power, one.noise_var, task.geometry)
        else:
            symbols = torch.polar(power.sqrt(), phase).unsqueeze(1)
            wanted = conditional_bound(one.h, one.codes, sources, symbols, one.noise_var, task.geometry)
        assert torch.allclose(found.range[scene, :count], wanted.range[0], rtol=1e-6)
        assert torch.allclose(found.azimuth[scene, :count], wanted.azimuth[0], rtol=1e-6)
        assert found.range[scene, count:].isnan().all()


def test_the_separation_is_the_angle_to_the_next_source(task, drawn):
    found = compare(task, [drawn.batch], predict_with(task), 16).separation
    for scene, count in enumerate(drawn.batch["num_sources"][:16].tolist()):
        at = positions(true_points(drawn.batch)[scene, :count].double())
        towards = at / at.norm(dim=1, keepdim=True)
        angle = torch.rad2deg(torch.acos((towards @ towards.T).clamp(-1, 1)))
        angle.fill_diagonal_(torch.inf)
        assert torch.allclose(found[scene, :count], angle.amin(1), atol=1e-4)
        assert found[scene, count:].isinf().all()


def test_positions_and_angles_are_each_others_inverse():
    points = torch.tensor([[0.3, -0.2, 0.25]], dtype=torch.float64)
    azimuth, elevation, distance = angles(points)
    at = positions(points)[0]
    assert distance.item() == pytest.approx(at.norm().item())
    assert torch.atan2(at[1], at[0]).item() == pytest.approx(azimuth.item())
    assert torch.asin(at[2] / at.norm()).item() == pytest.approx(elevation.item())
