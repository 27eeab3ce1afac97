"""Near-field MUSIC: a grid search in (u, v, 1 / range), then a refinement off the grid."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ristune.nearfield.covariance import Grid
from ristune.nearfield.descent import Linearised, descend
from ristune.nearfield.geometry import Geometry, steering_jacobian

# Two peaks whose steering vectors are more alike than this are one source.
MERGE_CORRELATION = 0.6
ITERATIONS = 20


@dataclass(frozen=True)
class Estimates:
    """Estimated sources of B scenes.

    Attributes:
        points: (u, v, w), [B, K, 3].
        found: [B, K]: whether there was a peak; points of others mean nothing.
    """

    points: Tensor
    found: Tensor


def signal_subspace(covariance: Tensor, num_sources: Tensor) -> Tensor:
    """Eigenvectors of the K largest eigenvalues of each scene, the columns beyond its K zero.

    Args:
        covariance: Hermitian, [B, N, N].
        num_sources: K, [B].

    Returns:
        [B, N, max K], complex.
    """
    most = int(num_sources.max())
    vectors: Tensor = torch.linalg.eigh(covariance).eigenvectors[..., -most:].flip(-1)
    return vectors * (torch.arange(most, device=covariance.device) < num_sources[:, None]).unsqueeze(1)


def null_spectrum(subspace: Tensor, grid: Grid) -> Tensor:
    """Squared distance of each steering vector from the signal subspace, a share of N in [0, 1], [B, G]."""
    inside = torch.view_as_real(grid.responses.conj() @ subspace).square().sum(dim=(-1, -2))
    return (1 - inside / grid.responses.shape[1]).clamp(min=0)


def pick_peaks(power: Tensor, num_sources: Tensor, grid: Grid) -> Estimates:
    """The K highest local maxima of a map, no two of them alike.

    Args:
        power: whatever is high where a source is, [B, G].
        num_sources: K, [B].
        grid: G points.
    """
    volume = power.reshape(-1, 1, *grid.shape)
    is_peak = (functional.max_pool3d(volume, 3, stride=1, padding=1) == volume).flatten(1)
    score = torch.where(is_peak, power, -torch.inf)
    n = grid.responses.shape[1]
    points, found = [], []
    for source in range(int(num_sources.max())):
        best, index = score.max(dim=1)
        points.append(grid.points[index])
        found.append(torch.isfinite(best) & (source < num_sources))
        alike = (grid.responses[index].conj() @ grid.responses.T).abs() / n > MERGE_CORRELATION
        score = score.masked_fill(alike, -torch.inf)
    return Estimates(torch.stack(points, dim=1), torch.stack(found, dim=1))


def refine(
    estimates: Estimates, subspace: Tensor, geometry: Geometry, low: Tensor, high: Tensor
) -> Estimates:
    """Levenberg-Marquardt on the part of the steering vector outside the signal subspace.

    Minimises `||a(u, v, w) - E E^H a(u, v, w)||^2`, whose residual is a vector: no difference of large
    numbers is squared, and the minimum is found far below the grid's step in FP32.

    Args:
        estimates: where to start, [B, K].
        subspace: orthonormal E (or zero) columns, [B, N, K'].
        geometry: the surface.
        low: lower bounds of (u, v, w), [3].
        high: upper bounds, [3].
    """
    basis = subspace.unsqueeze(1)

    def outside(values: Tensor) -> Tensor:
        return values - basis @ (basis.mH @ values)

    def linearise(points: Tensor) -> Linearised:
        response, slope = steering_jacobian(geometry, points)
        error, slope = outside(response.unsqueeze(-1)), outside(slope)
        cost = torch.view_as_real(error).square().sum(dim=(-1, -2, -3))
        return Linearised((slope.mH @ slope).real, (slope.mH @ error).real, cost)

    points, _ = descend(estimates.points, linearise, low, high, ITERATIONS)
    return Estimates(points, estimates.found)


def music(
    covariance: Tensor, num_sources: Tensor, grid: Grid, geometry: Geometry, low: Tensor, high: Tensor
) -> Estimates:
    """Locate K sources a scene from covariances, [B, N, N]; `grid` is only where the search starts."""
    subspace = signal_subspace(covariance, num_sources)
    peaks = pick_peaks(-null_spectrum(subspace, grid), num_sources, grid)
    return refine(peaks, subspace, geometry, low, high)
