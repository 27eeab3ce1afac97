"""Conditional maximum likelihood against the truth, its own residual, and the Cramer-Rao bound."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ristune.nearfield.bound import Sources, conditional_bound
from ristune.nearfield.channel import complex_normal
from ristune.nearfield.covariance import build_grid
from ristune.nearfield.likelihood import (
    LAST,
    Dictionary,
    Observation,
    Region,
    count_sources,
    exchange,
    maximum_likelihood,
    pursue,
    refine,
    residual,
)
from ristune.nearfield.metrics import score
from ristune.nearfield.sensing import observe, observe_sources
from tests.nearfield.cells import Cell
from tests.nearfield.conftest import GEOMETRY, VIEW

REGION = Region.within(GEOMETRY, VIEW.limits())
GRID = build_grid(GEOMETRY, (3, 13, 23), VIEW.limits())


def test_vectors_are_seen_through_codes_and_channel():
    cell = Cell(2, 10.0, scenes=3)
    vectors = torch.randn(3, GEOMETRY.size, 4, dtype=torch.complex64)
    found = observe(cell.data.h, cell.data.codes, vectors)
    plain = cell.data.h[2] @ torch.diag(cell.data.codes[2, 5]) @ vectors[2]
    assert torch.allclose(found[2, 5], plain, atol=1e-3)


def test_slopes_at_the_base_station_are_those_of_finite_differences():
    cell = Cell(2, 10.0, scenes=2)
    h, codes = cell.data.h.to(torch.complex128), cell.data.codes.to(torch.complex128)
    points = cell.truth.double()
    _, slopes = observe_sources(h, codes, points, GEOMETRY)
    for axis in range(3):
        step = 1e-6 * torch.eye(3).double()[axis]
        up, down = (observe_sources(h, codes, points + sign * step, GEOMETRY)[0] for sign in (1, -1))
        differences = (up - down) / 2e-6
        assert (differences - slopes[..., axis]).abs().max() < 1e-6 * differences.abs().max()


def test_the_residual_of_the_truth_is_the_noise_outside_the_sources():
    cell = Cell(3, 10.0, scenes=200)
    share = residual(cell.data, cell.truth, GEOMETRY) / cell.data.noise_var / (16 * (16 - 3))
    assert share.mean().item() == pytest.approx(1, abs=0.02)


def test_a_refinement_never_ends_above_its_start_nor_outside_the_region():
    cell = Cell(3, 5.0)
    start = cell.truth + 0.1 * torch.randn(cell.truth.shape, generator=torch.Generator().manual_seed(0))
    start = torch.minimum(torch.maximum(start, REGION.low), REGION.high)
    points, cost = refine(cell.data, start, REGION, LAST)
    assert (cost <= residual(cell.data, start, GEOMETRY) * (1 + 1e-5)).all()
    assert torch.allclose(cost, residual(cell.data, points, GEOMETRY), rtol=1e-4)
    assert (points >= REGION.low).all() and (points <= REGION.high).all()


def test_each_further_source_lowers_the_residual():
    cell = Cell(3, 10.0)
    found, costs = pursue(cell.data, Dictionary(cell.data, GRID), 4, REGION)
    assert [points.shape for points in found] == [(24, k, 3) for k in (1, 2, 3, 4)]
    assert (costs.diff(dim=1) < 0).all()


@pytest.mark.parametrize("sources", [1, 2, 3])
def test_sources_are_counted_at_10_db(sources):
    cell = Cell(sources, 10.0, scenes=30)
    _, costs = pursue(cell.data, Dictionary(cell.data, GRID), 5, REGION)
    assert (count_sources(costs, cell.data) == sources).float().mean() > 0.9


def test_noise_has_no_sources():
    cell = Cell(1, 10.0, scenes=30)
    noise = complex_normal(cell.data.y.shape, np.random.default_rng(0))
    silent = replace(cell.data, y=torch.from_numpy(noise), noise_var=torch.ones(30))
    _, costs = pursue(silent, Dictionary(silent, GRID), 2, REGION)
    assert (count_sources(costs, silent) == 0).all()


def test_the_next_source_is_the_one_whose_residual_is_least():
    cell = Cell(3, 10.0, scenes=5)
    known = cell.truth[:, :2]
    views, _ = observe_sources(cell.data.h, cell.data.codes, known, GEOMETRY)
    found = Dictionary(cell.data, GRID).next_source(torch.linalg.qr(views).Q)
    every = torch.arange(len(GRID.points))
    for scene in range(5):
        triples = torch.cat([known[scene].expand(len(every), 2, 3), GRID.points[:, None]], dim=1)
        left = residual(cell.data.of(torch.full_like(every, scene)), triples, GEOMETRY)
        assert torch.equal(found[scene], GRID.points[left.argmin()])


@pytest.mark.parametrize(("sources", "least"), [(1, 0.99), (2, 0.95), (3, 0.85)])
def test_sources_are_found_at_10_db(sources, least):
    cell = Cell(sources, 10.0, scenes=50)
    found = maximum_likelihood(cell.data, cell.counts, GRID, REGION)
    assert score(found, cell.truth, cell.counts, gate_deg=1.0).recall >= least


@pytest.mark.parametrize("changes", [{"wavefront": "fresnel"}, {"amplitude": "spherical"}])
def test_sources_of_other_waves_are_found(changes):
    geometry = replace(GEOMETRY, **changes)
    cell = Cell(2, 20.0, scenes=10, geometry=geometry)
    region = replace(REGION, geometry=geometry)
    grid = build_grid(geometry, (3, 13, 23), VIEW.limits())
    found = maximum_likelihood(cell.data, cell.counts, grid, region)
    assert score(found, cell.truth, cell.counts, gate_deg=1.0).recall == 1.0


def test_scenes_of_several_counts_are_estimated_together():
    one, three = Cell(1, 20.0, scenes=4), Cell(3, 20.0, scenes=4)
    joined = Observation(
        *(
            torch.cat([getattr(c.data, name) for c in (one, three)])
            for name in ("y", "h", "codes", "noise_var")
        )
    )
    counts = torch.cat([one.counts, three.counts])
    found = maximum_likelihood(joined, counts, GRID, REGION)
    assert found.found.sum(dim=1).tolist() == [1] * 4 + [3] * 4
    alone = maximum_likelihood(three.data, three.counts, GRID, REGION)
    assert torch.allclose(found.points[4:], alone.points, atol=1e-4)


def test_a_source_that_took_the_place_of_two_is_moved():
    cell = Cell(3, 20.0)
    between = cell.truth[:, :2].mean(dim=1, keepdim=True)
    stuck, cost = refine(cell.data, torch.cat([between, between + 0.01, cell.truth[:, 2:]], dim=1), REGION, 6)
    far = (stuck[:, :2] - cell.truth[:, :2]).abs().amax(dim=(1, 2)) > 0.05
    assert far.sum() > 5
    points, after = exchange(cell.data, Dictionary(cell.data, GRID), stuck, cost, REGION)
    assert (after <= cost).all() and (after[far] < 0.5 * cost[far]).float().mean() > 0.7
    assert points.shape == stuck.shape


def test_no_truth_reaches_the_estimate():
    cell = Cell(2, 10.0, scenes=8)
    assert list(vars(cell.data)) == ["y", "h", "codes", "noise_var"]
    found = maximum_likelihood(cell.data, cell.counts, GRID, REGION).points
    other = maximum_likelihood(
        replace(cell.data, noise_var=cell.data.noise_var * 9), cell.counts, GRID, REGION
    )
    assert torch.equal(found, other.points)


@pytest.mark.parametrize("sources", [1, 2])
def test_errors_lie_on_the_bound(sources):
    cell = Cell(sources, 20.0, scenes=80)
    found = score(maximum_likelihood(cell.data, cell.counts, GRID, REGION), cell.truth, cell.counts)
    at = Sources(*(cell.batch[name].double() for name in ("azimuth", "elevation", "range")))
    data = cell.data
    bound = conditional_bound(data.h, data.codes, at, cell.symbols, data.noise_var, GEOMETRY)
    assert found.success.mean() > 0.95
    for name, ratio in found.bound_ratios(bound).items():
        assert 0.85 < ratio < 1.25, name
