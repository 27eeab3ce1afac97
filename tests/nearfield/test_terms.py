"""Loss terms against matrices, and their gradients where covariances are at their worst."""

import pytest
import torch

from ristune.nearfield.covariance import Prediction, predicted_covariance
from ristune.nearfield.geometry import steering
from ristune.nearfield.scene import true_points
from ristune.nearfield.terms import BESIDE, eigengap, misplaced, missed_subspace, peak_error, rank
from tests.nearfield.conftest import GEOMETRY, Drawn, make_task, scene_sampler, simulator

N = GEOMETRY.size


def predictions(task, count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(count, len(task.grid.points) + 1, generator=generator).pow(8)
    shares = shares / shares.sum(1, keepdim=True)
    return Prediction(shares[:, :-1], shares[:, -1])


@pytest.fixture
def batch(task, drawn):
    prepared = task.prepare(drawn.batch)
    return {name: column[:6] for name, column in prepared.items()}


def covariances():
    """R = 0, R = I, rank 1, rank K of equal and of other powers, and one of full rank; K = 3."""
    generator = torch.Generator().manual_seed(1)
    points = torch.tensor([[0.1, 0.2, 0.2], [-0.4, 0.1, 0.3], [0.5, -0.2, 0.4]])
    a = steering(GEOMETRY, points).T
    one = a[:, :1] @ a[:, :1].mH
    full = torch.randn(N, N, generator=generator, dtype=torch.complex64)
    powers = torch.tensor([0.6, 0.3, 0.1])
    q = torch.linalg.qr(a).Q
    return {
        "zero": torch.zeros(N, N, dtype=torch.complex64),
        "identity": torch.eye(N, dtype=torch.complex64),
        "rank 1": one,
        "rank K": (a * powers) @ a.mH,
        "repeated": q @ q.mH * N / 3,
        "full": full @ full.mH / N,
    }


@pytest.mark.parametrize("name", list(covariances()))
def test_the_eigengap_has_a_finite_gradient(name):
    covariance = covariances()[name].unsqueeze(0).requires_grad_()
    value = eigengap(covariance, torch.tensor([3]))
    value.sum().backward()
    assert value.isfinite().all() and covariance.grad.isfinite().all()
    assert covariance.grad.abs().max() < 1e3


def test_the_eigengap_is_the_mean_of_the_noise_beside_the_least_of_the_signal():
    values = torch.tensor([1.0, 5.0, 1.0, 3.0, 2.0, 0.5, 0.5])
    found = eigengap(torch.diag(values).to(torch.complex64).expand(2, -1, -1), torch.tensor([3, 1]))
    assert found.tolist() == pytest.approx([0.75 / (2 + 0.75), 8 / 6 / (5 + 8 / 6)], rel=1e-3)


def test_the_eigengap_is_zero_at_rank_k_and_a_half_where_signal_and_noise_are_one():
    found = {name: eigengap(r.unsqueeze(0), torch.tensor([3])).item() for name, r in covariances().items()}
    assert found["rank K"] == pytest.approx(0, abs=1e-4) and found["repeated"] == pytest.approx(0, abs=1e-4)
    assert found["identity"] == pytest.approx(0.5, abs=1e-3)
    # A source too few: the least of three signal eigenvalues is noise.
    assert found["rank 1"] < 0.01 and found["full"] > 0.1


def test_the_eigengap_falls_as_the_floor_does(task, batch):
    factor = batch["factor"]
    true = factor @ factor.mH
    eye = torch.eye(N)
    gaps = [
        eigengap((1 - share) * true + share * eye, rank(factor)).mean().item() for share in (0.9, 0.5, 0.1, 0)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] == pytest.approx(0, abs=1e-4)


def test_the_missed_subspace_is_that_of_the_matrices(task, batch):
    predicted, factor = predictions(task), batch["factor"]
    matrices = predicted_covariance(predicted, task.grid)
    for scene, k in enumerate(rank(factor).tolist()):
        basis = torch.linalg.qr(factor[scene][:, :k]).Q
        inside = torch.trace(basis.mH @ matrices[scene] @ basis).real / N
        found = missed_subspace(predicted, task.grid, factor)[scene]
        assert found.item() == pytest.approx(1 - inside.item(), abs=1e-5)


def test_peaks_are_those_of_the_matrices(task, batch):
    predicted, factor = predictions(task), batch["factor"]
    points, present = true_points(batch), batch["range"] > 0
    found = peak_error(predicted, task.grid, points, present, factor, GEOMETRY)
    matrices = predicted_covariance(predicted, task.grid), factor @ factor.mH
    for scene in range(6):
        at = points[scene][present[scene]]
        probes = torch.cat([at, at * torch.tensor([-1, -1, 1])])
        for change in (BESIDE, -BESIDE):
            beside = at + torch.tensor([0, 0, change])
            probes = torch.cat([probes, torch.stack([*beside.T[:2], beside[:, 2].clamp(min=0)], dim=1)])
        a = steering(GEOMETRY, probes)
        pred, true = (torch.einsum("qm,mn,qn->q", a.conj(), r[scene], a).real for r in matrices)
        wanted = (pred - true).square().sum() / true.square().sum()
        assert found[scene].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_a_conjugated_prediction_and_one_at_another_range_have_the_wrong_peaks(task):
    point = torch.tensor([[[0.4, 0.2, 0.25]]])
    factor = steering(GEOMETRY, point).mT
    for other in ([-0.4, -0.2, 0.25], [0.4, 0.2, 0.5]):
        nearest = (task.grid.points - torch.tensor(other)).square().sum(1).argmin()
        gamma = torch.zeros(1, len(task.grid.points))
        gamma[0, nearest] = 1.0
        wrong = Prediction(gamma, torch.zeros(1))
        present = torch.ones(1, 1, dtype=torch.bool)
        assert peak_error(wrong, task.grid, point, present, factor, GEOMETRY) > 0.3


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["zero", "identity"])
def test_subspace_and_peaks_have_finite_gradients(task, batch, share):
    gamma = torch.zeros(6, len(task.grid.points), requires_grad=True)
    floor = torch.full((6,), share, requires_grad=True)
    predicted, factor = Prediction(gamma, floor), batch["factor"]
    points, present = true_points(batch), batch["range"] > 0
    total = missed_subspace(predicted, task.grid, factor).sum()
    total = total + peak_error(predicted, task.grid, points, present, factor, GEOMETRY).sum()
    total.backward()
    assert total.isfinite()
    for value in (gamma, floor):
        assert value.grad.isfinite().all() and value.grad.abs().max() > 0


def test_the_rank_is_the_number_of_sources(batch):
    assert torch.equal(rank(batch["factor"]), batch["num_sources"].long())


def sources(task, chosen, powers):
    """Sources on points of the grid: their places and powers, as labels have them."""
    return task.grid.points[torch.tensor(chosen)], torch.tensor(powers), GEOMETRY


def test_misplaced_power_is_zero_at_the_truth_and_falls_towards_it(task):
    chosen = [[10, 200], [40, 250]]
    labels = sources(task, chosen, [[0.7, 0.3], [0.7, 0.3]])
    empty = torch.zeros(2, len(task.grid.points))
    right = empty.scatter(1, torch.tensor(chosen), labels[1])
    wrong = empty.scatter(1, torch.tensor(chosen)[:, :1], 1.0)

    def at(share):
        gamma = share * right + (1 - share) * wrong
        return misplaced(Prediction(gamma, torch.zeros(2)), task.grid, *labels).mean().item()

    assert at(1.0) == pytest.approx(0, abs=1e-5)
    values = [at(share) for share in (0.0, 0.1, 0.5, 1.0)]
    # One source missed costs by far the most.
    assert values == sorted(values, reverse=True) and values[0] > 3 * values[1] > 0


def test_misplaced_power_is_that_of_its_formula(task, batch):
    predicted, points = predictions(task), true_points(batch)
    power = batch["power"] * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    power = power / power.sum(1, keepdim=True)
    found = misplaced(predicted, task.grid, points, power, GEOMETRY)
    for scene, k in enumerate(batch["num_sources"].tolist()):
        a = steering(GEOMETRY, points[scene, :k]).to(torch.complex128).T
        p = power[scene, :k].double()
        near = (task.grid.responses.to(a.dtype).conj() @ a).abs().pow(4) / N**4
        mass = predicted.gamma[scene].double() @ near + predicted.floor[scene] / N
        true = ((a.mH @ a).abs().pow(4) / N**4) @ p
        assert found[scene].item() == pytest.approx((p * (true / mass).log()).sum().item(), rel=1e-3)


def test_coherent_sources_are_places_as_others_are():
    """R of static sources has one column, which is no source: labels say where they are."""
    drawn, task = Drawn(simulator(scene_sampler(source_model="static", num_sources=[2, 2]))), make_task()
    task.attach(drawn)
    batch = task.prepare(drawn.batch)
    nearest = torch.cdist(true_points(batch), task.grid.points).argmin(2)
    empty = torch.zeros(64, len(task.grid.points))
    both, one = empty.scatter(1, nearest, 0.5), empty.scatter(1, nearest[:, :1], 1.0)
    labels = true_points(batch), batch["power"], GEOMETRY
    values = [misplaced(Prediction(gamma, torch.zeros(64)), task.grid, *labels) for gamma in (both, one)]
    assert (values[0] < values[1]).float().mean() > 0.9


@pytest.mark.parametrize("shape", ["nothing", "floor", "one point"])
def test_misplaced_power_has_a_finite_gradient(task, batch, shape):
    gamma = torch.zeros(6, len(task.grid.points))
    if shape == "one point":
        gamma[:, 7] = 1.0
    gamma.requires_grad_()
    floor = torch.full((6,), 1.0 if shape == "floor" else 1e-6)
    value = misplaced(Prediction(gamma, floor), task.grid, true_points(batch), batch["power"], GEOMETRY)
    value.sum().backward()
    assert value.isfinite().all() and gamma.grad.isfinite().all()
