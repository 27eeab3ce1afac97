"""What locates sources from snapshots: maximum likelihood, and its refinement from several starting points.

A refinement that is good enough hides a dead network. So its peaks are compared with peaks for which nothing
is learned: those of the matched filter, of minimum variance, and of a network that was never trained.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from ristune.errors import InputError
from ristune.nearfield.covariance import Grid, Limits, build_grid
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.likelihood import (
    LAST,
    PASSES,
    Dictionary,
    Observation,
    Region,
    count_sources,
    maximum_likelihood,
    pursue,
    refine,
)
from ristune.nearfield.loss import prediction
from ristune.nearfield.music import Estimates, pick_peaks
from ristune.nearfield.sparse import grid_powers

Batch = dict[str, Tensor]
HYBRID = "hybrid: network's peaks"
HYBRID_COUNTED = "hybrid: K by the network"
MAXIMUM_LIKELIHOOD = "maximum likelihood"
EXCHANGED = "maximum likelihood, exchanged"
SPARSE = "sparse Bayesian learning"
ML_COUNTED = "maximum likelihood: K by BIC"
# Points by 1 / range of the likelihood's search, as fine as the task's in angle; more find no more.
RANGE_POINTS = 3
# Steps of the refinement from peaks.
ITERATIONS = 12
# Loading of R_samp, whose trace is N, before it is inverted.
LOADING = 0.1


class Localises(Protocol):
    """What is needed of the task."""

    geometry: Geometry
    grid: Grid
    max_sources: int

    def untrained(self) -> nn.Module:
        """A network as it is before training."""
        ...

    def observation(self, batch: Batch) -> Observation:
        """What an estimator is given of a batch."""
        ...


@dataclass(frozen=True)
class Located:
    """Estimates of some scenes, and what they cost.

    Attributes:
        estimates: of B scenes, on the CPU.
        seconds: for all of them together.
    """

    estimates: Estimates
    seconds: float


class Estimators:
    """Estimators of one task. They are told K, and nothing else of the labels, or find K themselves.

    Args:
        task: the task.
        limits: of its field of view, by w, v and u.
    """

    def __init__(self, task: Localises, limits: Limits) -> None:
        _, v, u = task.grid.shape
        self._task = task
        self._search = build_grid(task.geometry, (RANGE_POINTS, v, u), limits, gram=False)
        self._region = Region.within(task.geometry, limits)
        self._untrained = task.untrained().eval()

    def locate(self, output: Batch, batch: Batch) -> dict[str, Located]:
        """Estimates by name, for the scenes of a prepared batch.

        Args:
            output: of the network.
            batch: prepared.

        Raises:
            InputError: if a scene has as many sources as there are antennas.
        """
        data, counts = self._task.observation(batch), batch["num_sources"]
        antennas = data.y.shape[2]
        if int(counts.max()) >= antennas:
            rule = f"there must be more antennas than sources, and there are {antennas}"
            raise InputError("num_sources", int(counts.max()), rule, "measure on scenes of fewer sources")
        self._search = search = self._search.to(counts.device)
        starts: dict[str, Callable[[], Tensor]] = {
            "control: untrained network": lambda: self._untrained_map(batch),
            "control: matched filter": lambda: batch["sample_map"],
            "control: minimum variance": lambda: minimum_variance(batch["snapshots"], self._task.grid),
        }
        found = {HYBRID: timed(lambda: self.hybrid(output, data, counts))}
        for name, power in starts.items():
            found[name] = timed(partial(self._refined, power, data, counts))
        found[SPARSE] = timed(
            lambda: self._from_peaks(pick_peaks(grid_powers(data, search), counts, search), data)
        )
        for name, passes in ((MAXIMUM_LIKELIHOOD, 0), (EXCHANGED, PASSES)):
            found[name] = timed(partial(self.likelihood, data, counts, passes))
        found[HYBRID_COUNTED] = timed(lambda: self.hybrid(output, data, output["count"].argmax(1) + 1))
        found[ML_COUNTED] = timed(lambda: self._counted_by_likelihood(data))
        return found

    def hybrid(self, output: Batch, data: Observation, counts: Tensor) -> Estimates:
        """The highest peaks of the network's map, refined by the likelihood.

        Args:
            output: of the network.
            data: B scenes.
            counts: how many are looked for, [B].
        """
        return self._refined(lambda: prediction(output).gamma, data, counts)

    def likelihood(self, data: Observation, counts: Tensor, passes: int) -> Estimates:
        """Conditional maximum likelihood, told K.

        Args:
            data: B scenes.
            counts: K, [B].
            passes: times that each source is looked for anew.
        """
        device = counts.device
        return maximum_likelihood(data, counts, self._search.to(device), self._region.to(device), passes)

    def _refined(self, power: Callable[[], Tensor], data: Observation, counts: Tensor) -> Estimates:
        """The highest peaks of a map over the task's grid, [B, G], refined by the likelihood."""
        return self._from_peaks(pick_peaks(power(), counts, self._task.grid), data)

    def _from_peaks(self, peaks: Estimates, data: Observation) -> Estimates:
        points, region = peaks.points.clone(), self._region.to(data.y.device)
        # A map may have fewer peaks; what is no peak must not take part.
        there = peaks.found.sum(1)
        for count in sorted(set(there.tolist()) - {0}):
            some = torch.nonzero(there == count).squeeze(1)
            points[some, :count] = refine(data.of(some), points[some, :count], region, ITERATIONS)[0]
        return Estimates(points, peaks.found)

    def _untrained_map(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            return prediction(self._untrained.to(batch["y"].device)(batch)).gamma

    def _counted_by_likelihood(self, data: Observation) -> Estimates:
        """K by the Bayesian information criterion, up to one more than the network tells."""
        search, region = self._search.to(data.y.device), self._region.to(data.y.device)
        # With as many sources as antennas nothing is left of any snapshot.
        most = min(self._task.max_sources + 1, data.y.shape[2] - 1)
        found, costs = pursue(data, Dictionary(data, search), most, region)
        counts = count_sources(costs, data)
        points = torch.zeros(len(counts), most, 3, device=counts.device)
        for count in sorted(set(counts.tolist()) - {0}):
            some = torch.nonzero(counts == count).squeeze(1)
            at = found[count - 1][some]
            points[some, :count] = refine(data.of(some), at, region, LAST)[0]
        return Estimates(points, torch.arange(most, device=counts.device) < counts[:, None])


def timed(locate: Callable[[], Estimates]) -> Located:
    """Run an estimator and take its time."""
    started = time.perf_counter()
    found = locate()
    # To be copied, all of it must have been computed.
    on_host = Estimates(found.points.cpu(), found.found.cpu())
    return Located(on_host, time.perf_counter() - started)


def minimum_variance(snapshots: Tensor, grid: Grid) -> Tensor:
    """Capon's spectrum, `1 / a_g^H (R_samp + delta I)^-1 a_g`, [B, G] (Capon, 1969).

    R_samp has rank L: the inverse is that of an L x L matrix.

    Args:
        snapshots: x, [B, L, N], complex64, of a sample covariance of trace N.
        grid: G points.
    """
    length, size = snapshots.shape[1:]
    x = snapshots.mT / length**0.5
    eye = torch.eye(length, dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky(x.mH @ x + LOADING * eye)
    seen = torch.linalg.solve_triangular(factor, x.mH @ grid.responses.T, upper=False)
    left: Tensor = size - torch.view_as_real(seen).square().sum(-1).sum(1)
    # At least what the loading leaves of a vector inside the snapshots' span.
    return LOADING / left.clamp(min=torch.finfo(left.dtype).eps * size)
