"""What the loss is made of beside the covariance errors: eigengap, signal subspace, places and peaks.

No term differentiates an eigenvector: its gradient has 1 / (lambda_i - lambda_j), which is not finite for a
covariance of few sources. Eigenvalues alone are differentiated, and projectors are built from labels.
"""

import torch
from torch import Tensor

from ristune.nearfield.covariance import Grid, Prediction
from ristune.nearfield.geometry import Geometry, steering

# Of the mean eigenvalue of a covariance of trace N, which is 1: keeps gradients finite where all are 0.
SMALL = 1e-3
# How far from a source's 1 / range, in 1 / metre, its direction is probed as well.
BESIDE = 0.2


def eigengap(covariance: Tensor, sources: Tensor) -> Tensor:
    """The mean noise eigenvalue as a share of itself and the least signal eigenvalue, [B].

    `m / (lambda_K + m + small)`, m the mean of lambda_K+1 .. lambda_N: 0 for a covariance of rank K, as the
    truth is, and 1/2 where nothing sets signal and noise apart.

    Args:
        covariance: Hermitian, [B, N, N], complex64.
        sources: K, the rank of the truth, [B].
    """
    falling = torch.linalg.eigvalsh(covariance).flip(-1)
    size = falling.shape[1]
    noise = torch.arange(size, device=falling.device) >= sources.unsqueeze(1)
    mean = (falling * noise).sum(1) / (size - sources)
    least = falling.gather(1, sources.unsqueeze(1) - 1).squeeze(1)
    gap: Tensor = mean / (least + mean + SMALL)
    return gap


def missed_subspace(predicted: Prediction, grid: Grid, factor: Tensor) -> Tensor:
    """The share of R_pred outside the true signal subspace, `1 - tr(P R_pred) / N`, [B].

    `P = F (F^H F)^-1 F^H` is built from labels and has no gradient; the share is linear in the prediction and
    0 at the truth.

    Args:
        predicted: R_pred.
        grid: its grid.
        factor: F of the truth R = F F^H, [B, N, K], complex64; columns of absent sources are zero.
    """
    present = _present(factor)
    # Absent sources get a unit diagonal: their columns stay zero.
    gram = factor.mH @ factor + torch.diag_embed((~present).to(factor.dtype))
    basis = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), factor.mH, upper=False)
    inside = torch.view_as_real(basis @ grid.responses.T).square().sum(-1).sum(1)
    kept = (predicted.gamma * inside).sum(1) + predicted.floor * present.sum(1)
    return 1 - kept / factor.shape[1]


def misplaced(predicted: Prediction, grid: Grid, points: Tensor, power: Tensor, geometry: Geometry) -> Tensor:
    """How far the predicted power lies from the sources, [B]: `sum_k p_k log(m_k / m_k(R_pred))`.

    `m_k(R_pred) = sum_g gamma_g (|a_g^H a_k| / N)^4 + floor / N` is the power near source k: the fourth power
    of the correlation is half of its peak at about 3 degrees, where the correlation itself has half of its
    square at 4. m_k is the same of the sources, p_j in the place of gamma_g. It is 0 where the map is the
    sources' powers, and a cross-entropy where they are apart: a source that is missed costs the more the less
    power lies near it, while a squared error of R hardly sees it.

    Args:
        predicted: R_pred.
        grid: its grid.
        points: (u, v, w) of the true sources, [B, K, 3].
        power: p, [B, K], 0 of absent sources.
        geometry: the surface.
    """
    size = geometry.size
    present = power > 0
    responses = steering(geometry, points)
    near = torch.view_as_real(responses.conj() @ grid.responses.T).square().sum(-1) / size**2
    among = torch.view_as_real(responses.conj() @ responses.mT).square().sum(-1) / size**2
    found = (near.square() @ predicted.gamma.unsqueeze(-1)).squeeze(-1) + predicted.floor.unsqueeze(1) / size
    true = (among.square() @ power.unsqueeze(-1)).squeeze(-1)
    ratio = torch.where(present, true, 1.0).log() - torch.where(present, found, 1.0).log()
    return (power * ratio).sum(1) / power.sum(1)


def peak_error(
    predicted: Prediction, grid: Grid, points: Tensor, present: Tensor, factor: Tensor, geometry: Geometry
) -> Tensor:
    """The relative squared error of the beamformer's power at sources and where their ghosts would be, [B].

    Probed are each source, its direction nearer and farther, and its mirror image, which a conjugated
    response would show: `sum_q (b_pred(q) - b_true(q))^2 / sum_q b_true(q)^2`, b(q) = a_q^H R a_q. It is 0 at
    the truth, and compares peaks with their surroundings.

    Args:
        predicted: R_pred.
        grid: its grid.
        points: (u, v, w) of the true sources, [B, K, 3].
        present: whether there is a source, [B, K].
        factor: F of the truth R = F F^H, [B, N, K'], complex64.
        geometry: the surface.
    """
    aside = points.new_tensor([0.0, 0.0, BESIDE])
    mirror = points.new_tensor([-1.0, -1.0, 1.0])
    # A wave is no flatter than a plane one.
    farther = (points - aside).maximum(points.new_tensor([-1.0, -1.0, 0.0]))
    probes = torch.cat([points, points + aside, farther, points * mirror], dim=1)
    responses = steering(geometry, probes).conj()
    counted = present.repeat(1, 4)
    spread = torch.view_as_real(responses @ grid.responses.T).square().sum(-1)
    found = (spread @ predicted.gamma.unsqueeze(-1)).squeeze(-1)
    found = found + geometry.size * predicted.floor.unsqueeze(1)
    true = torch.view_as_real(responses @ factor).square().sum(dim=(-1, -2))
    error = ((found - true).square() * counted).sum(1)
    return error / (true.square() * counted).sum(1)


def rank(factor: Tensor) -> Tensor:
    """Rank of R = F F^H, the number of columns of F that are not zero, [B]."""
    return _present(factor).sum(1)


def _present(factor: Tensor) -> Tensor:
    return torch.view_as_real(factor).square().sum(dim=(1, 3)) > 0
