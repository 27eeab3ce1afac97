"""Estimators beside the network, and the starting points that are compared with its own."""

import pytest
import torch

from ristune.errors import InputError
from ristune.nearfield.covariance import sample_covariance
from ristune.nearfield.estimators import LOADING, Estimators, minimum_variance
from ristune.nearfield.metrics import score
from ristune.nearfield.scene import true_points
from tests.nearfield.conftest import VIEW, Drawn, make_task, scene_sampler, simulator


def test_minimum_variance_is_that_of_the_inverted_matrix(task, drawn):
    snapshots = task.prepare(drawn.batch)["snapshots"][:3]
    loaded = sample_covariance(snapshots, torch.zeros(3, 144)).to(torch.complex128) + LOADING * torch.eye(144)
    a = task.grid.responses.to(torch.complex128)
    expected = 1 / torch.einsum("gm,bmn,gn->bg", a.conj(), torch.linalg.inv(loaded), a).real
    found = minimum_variance(snapshots, task.grid)
    assert torch.allclose(found.double(), expected, rtol=1e-3)


def test_an_untrained_network_is_one_of_the_same_kind_and_no_other_each_time(task):
    assert [p.shape for p in task.untrained().parameters()] == [p.shape for p in task.network.parameters()]
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.zero_()
    first, second = (task.untrained().state_dict() for _ in range(2))
    assert first["stages.0.enter.weight"].any()
    assert all(torch.equal(first[name], second[name]) for name in first)
    before = torch.random.get_rng_state()
    task.untrained()
    assert torch.equal(before, torch.random.get_rng_state())


def test_right_peaks_are_refined_to_the_sources_and_wrong_ones_are_not_hidden():
    """A map that is high at the sources gives what maximum likelihood finds; an empty one does not."""
    source = simulator(scene_sampler(num_sources=[2, 2]), snr_db=(20, 20))
    drawn, task = Drawn(source, rows=16), make_task(grid=[3, 13, 23])
    task.attach(drawn)
    batch = task.prepare(drawn.batch)
    truth, counts = true_points(batch), batch["num_sources"]
    nearest = torch.cdist(truth, task.grid.points).argmin(2)
    logits = torch.zeros(16, len(task.grid.points) + 1).scatter(1, nearest, 10.0)
    output, other = (
        {"map": each.unsqueeze(1), "count": torch.zeros(16, 5)} for each in (logits, logits.roll(5, 0))
    )
    estimators = Estimators(task, VIEW.limits())
    located = estimators.locate(output, batch)
    scores = {name: score(each.estimates, truth, counts) for name, each in located.items()}
    assert scores["hybrid: network's peaks"].success.mean() > 0.9
    assert scores["maximum likelihood"].success.mean() > 0.9
    wrong = estimators.locate(other, batch)["hybrid: network's peaks"]
    assert score(wrong.estimates, truth, counts).success.mean() < 0.7
    assert all(each.seconds > 0 for each in located.values())


def test_what_is_no_peak_takes_no_part():
    """A map with one peak gives one source, refined as if it were looked for alone."""
    drawn, task = Drawn(simulator(scene_sampler(num_sources=[3, 3]), snr_db=(20, 20)), rows=8), make_task()
    task.attach(drawn)
    batch = task.prepare(drawn.batch)
    nearest = torch.cdist(true_points(batch), task.grid.points).argmin(2)[:, :1]
    ramp = torch.cdist(task.grid.points[nearest], task.grid.points.unsqueeze(0)).squeeze(1)
    output = {"map": -30 * torch.nn.functional.pad(ramp, (0, 1)).unsqueeze(1), "count": torch.zeros(8, 5)}
    estimators, data = Estimators(task, VIEW.limits()), task.observation(batch)
    three, one = (estimators.hybrid(output, data, torch.full((8,), count)) for count in (3, 1))
    alone = three.found.sum(1) == 1
    assert alone.any()
    assert torch.allclose(three.points[alone, 0], one.points[alone, 0], atol=1e-5)


def test_no_more_sources_than_antennas_are_looked_for():
    source = simulator(scene_sampler(num_sources=[1, 2]), snr_db=(20, 20), antennas=4)
    drawn, task = Drawn(source, rows=6), make_task()
    task.attach(drawn)
    batch = task.prepare(drawn.batch)
    with torch.no_grad():
        output = task.network(batch)
    estimators = Estimators(task, VIEW.limits())
    assert estimators.locate(output, batch)["maximum likelihood: K by BIC"].estimates.points.shape[1] == 3
    with pytest.raises(InputError, match="num_sources: got 4; there must be more antennas than sources"):
        estimators.locate(output, {**batch, "num_sources": torch.full((6,), 4)})
