"""Conditional maximum likelihood: sources found one after the other, all refined together.

The model is `y_l = B_l(theta) s_l + n_l` with B_l = Phi_l A and arbitrary symbols s_l, which the residual
`sum_l ||P_perp(B_l) y_l||^2` is free of (variable projection; Golub and Pereyra, 1973). A grid gives each
source its start by the fall of that residual (orthogonal least squares; Chen, Billings and Luo, 1989), and
Levenberg-Marquardt with Kaufman's Jacobian refines all sources off the grid.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ristune.nearfield.covariance import Grid, Limits
from ristune.nearfield.descent import Linearised, descend
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.music import Estimates
from ristune.nearfield.sensing import observe, observe_sources

# Iterations after each new source, and after the last one.
BETWEEN, LAST = 6, 20
# Times that each source is looked for anew among the others.
PASSES = 1
# A response of less than this share of its own energy outside the sources found so far is no new source.
NOVEL = 0.05


@dataclass(frozen=True)
class Observation:
    """What an estimator is given of B scenes.

    Attributes:
        y: snapshots, [B, L, M], complex64.
        h: channel H, [B, M, N], complex64.
        codes: c, [B, L, N], complex64.
        noise_var: sigma^2, [B], float32.
    """

    y: Tensor
    h: Tensor
    codes: Tensor
    noise_var: Tensor

    def of(self, members: Tensor) -> "Observation":
        """Some of the scenes, by index or mask, [B]."""
        return Observation(self.y[members], self.h[members], self.codes[members], self.noise_var[members])


@dataclass(frozen=True)
class Region:
    """Where sources are looked for.

    Attributes:
        geometry: the surface.
        low: lower bounds of (u, v, w), [3].
        high: upper bounds, [3].
    """

    geometry: Geometry
    low: Tensor
    high: Tensor

    @classmethod
    def within(cls, geometry: Geometry, limits: Limits) -> "Region":
        """The region of a field of view, whose limits are by w, v and u."""
        low, high = torch.tensor(limits[::-1]).unbind(1)
        return cls(geometry, low, high)

    def to(self, device: torch.device) -> "Region":
        """The same region on another device."""
        return Region(self.geometry, self.low.to(device), self.high.to(device))


def residual(data: Observation, points: Tensor, geometry: Geometry) -> Tensor:
    """`sum_l ||P_perp(B_l) y_l||^2`, [B], for sources (u, v, w), [B, K, 3]."""
    return _energy(_outside(_basis(data, points, geometry), data.y.unsqueeze(-1)))


def refine(data: Observation, points: Tensor, region: Region, iterations: int) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt on the projected residual, all sources of a scene together.

    Args:
        data: B scenes.
        points: where to start, (u, v, w), [B, K, 3].
        region: bounds of the estimates.
        iterations: how many.

    Returns:
        Points, [B, K, 3], and the residual there, [B]; never above that of the start.
    """
    sources = points.shape[1]
    y = data.y.unsqueeze(-1)

    def linearise(at: Tensor) -> Linearised:
        views, slopes = observe_sources(data.h, data.codes, at.unflatten(-1, (sources, 3)), region.geometry)
        basis, triangle = torch.linalg.qr(views)
        inside = basis.mH @ y
        error = y - basis @ inside
        symbols = torch.linalg.solve_triangular(triangle, inside, upper=True)
        moved = _outside(basis, (slopes * symbols.mT.unsqueeze(-1)).flatten(-2)).flatten(1, 2)
        # The residual falls along P_perp D s: its Jacobian is the negative.
        both = (moved.mH @ torch.cat([moved, error.flatten(1, 2)], dim=-1)).real
        return Linearised(both[..., :-1], -both[..., -1:], _energy(error))

    low, high = region.low.repeat(sources), region.high.repeat(sources)
    found, cost = descend(points.flatten(1), linearise, low, high, iterations)
    return found.unflatten(-1, (sources, 3)), cost


class Dictionary:
    """The grid as the base station sees it, once for all sources of some scenes.

    Args:
        data: B scenes.
        grid: G points.
    """

    def __init__(self, data: Observation, grid: Grid) -> None:
        self._grid = grid
        self._y = data.y.unsqueeze(-1)
        self._views = observe(data.h, data.codes, grid.responses.T)
        self._norms = torch.view_as_real(self._views).square().sum(dim=(2, 4))

    def next_source(self, basis: Tensor | None) -> Tensor:
        """The grid point whose response takes most of what is left of the snapshots.

        `sum_l |b_l^H P_perp y_l|^2 / ||P_perp b_l||^2`: how far the residual falls with one more source.

        Args:
            basis: orthonormal columns of the sources found so far, [B, L, M, k]; None if there is none.

        Returns:
            (u, v, w), [B, 3].
        """
        error, norms = self._y, self._norms
        if basis is not None:
            error = _outside(basis, error)
            taken = torch.view_as_real(basis.mH @ self._views).square().sum(dim=(2, 4))
            left = norms - taken
            norms = torch.where(left > NOVEL * norms, left, torch.inf)
        falls = torch.view_as_real(error.mH @ self._views).square().sum(-1).squeeze(2) / norms
        return self._grid.points[falls.sum(1).argmax(dim=1)]


def pursue(
    data: Observation, dictionary: Dictionary, most: int, region: Region
) -> tuple[list[Tensor], Tensor]:
    """Sources one after the other, all refined together after each.

    Args:
        data: B scenes.
        dictionary: theirs.
        most: sources K.
        region: bounds of the estimates.

    Returns:
        For k = 1 .. K the points (u, v, w), [B, k, 3], and the residual with 0 .. K sources, [B, K + 1].
    """
    points = data.y.new_zeros(len(data.y), 0, 3, dtype=data.noise_var.dtype)
    basis: Tensor | None = None
    found, costs = [], [_energy(data.y.unsqueeze(-1))]
    for _ in range(most):
        start = torch.cat([points, dictionary.next_source(basis).unsqueeze(1)], dim=1)
        points, cost = refine(data, start, region, BETWEEN)
        basis = _basis(data, points, region.geometry)
        found.append(points)
        costs.append(cost)
    return found, torch.stack(costs, dim=1)


def count_sources(costs: Tensor, data: Observation) -> Tensor:
    """The number of sources by the Bayesian information criterion, [B].

    `2 RSS_k / sigma^2 + k (3 ln(2 L M) + 2 L ln(2 M))`: three parameters of a source are seen by all 2 L M
    real numbers of a scene, each of its symbols by the 2 M of one snapshot. (Counting 2 L M for the symbols
    as well misses sources: of 64 scenes with K = 5 at 10 dB 0.42 are right, and 0.80 with this.)

    Args:
        costs: residuals with 0 .. K sources, [B, K + 1], of `pursue`.
        data: B scenes.
    """
    length, antennas = data.y.shape[1:]
    price = 3 * math.log(2 * length * antennas) + 2 * length * math.log(2 * antennas)
    counts = torch.arange(costs.shape[1], device=costs.device)
    return (2 * costs / data.noise_var.unsqueeze(-1) + price * counts).argmin(dim=1)


def exchange(
    data: Observation, dictionary: Dictionary, points: Tensor, cost: Tensor, region: Region
) -> tuple[Tensor, Tensor]:
    """Look for each source anew among the others: one that took two sources' place is moved.

    Args:
        data: B scenes.
        dictionary: theirs.
        points: (u, v, w), [B, K, 3].
        cost: the residual there, [B].
        region: bounds of the estimates.

    Returns:
        Points, [B, K, 3], and the residual there, [B]; never above the one before.
    """
    for source in range(points.shape[1]):
        others = torch.cat([points[:, :source], points[:, source + 1 :]], dim=1)
        start = dictionary.next_source(_basis(data, others, region.geometry)).unsqueeze(1)
        trial, new_cost = refine(data, torch.cat([others, start], dim=1), region, BETWEEN)
        better = new_cost < cost
        points = torch.where(better[:, None, None], trial, points)
        cost = torch.where(better, new_cost, cost)
    return points, cost


def maximum_likelihood(
    data: Observation, num_sources: Tensor, grid: Grid, region: Region, passes: int = PASSES
) -> Estimates:
    """Locate K sources a scene.

    Args:
        data: B scenes.
        num_sources: K, [B].
        grid: where the search for each source starts.
        region: bounds of the estimates.
        passes: times that each source is looked for anew.
    """
    most = int(num_sources.max())
    points = torch.zeros(len(num_sources), most, 3, device=data.y.device)
    for count in sorted(set(num_sources.tolist())):
        members = torch.nonzero(num_sources == count).squeeze(1)
        some = data.of(members)
        dictionary = Dictionary(some, grid)
        found, costs = pursue(some, dictionary, count, region)
        at, cost = found[-1], costs[:, -1]
        for _ in range(passes if count > 1 else 0):
            at, cost = exchange(some, dictionary, at, cost, region)
        points[members, :count] = refine(some, at, region, LAST)[0]
    return Estimates(points, torch.arange(most, device=points.device) < num_sources[:, None])


def _basis(data: Observation, points: Tensor, geometry: Geometry) -> Tensor:
    """Orthonormal columns of B_l, [B, L, M, K]."""
    views, _ = observe_sources(data.h, data.codes, points, geometry)
    basis: Tensor = torch.linalg.qr(views).Q
    return basis


def _outside(basis: Tensor, values: Tensor) -> Tensor:
    return values - basis @ (basis.mH @ values)


def _energy(values: Tensor) -> Tensor:
    """Sum of squared moduli of each scene, [B]."""
    return torch.view_as_real(values).square().flatten(1).sum(1)
