"""Covariances at the surface: the predicted map, its blend with the sample covariance, and their errors.

A prediction is a non-negative map gamma over a grid of steering vectors and a floor,
`R_pred = sum_g gamma_g a_g a_g^H + floor I` with `sum gamma + floor = 1`, so that its trace is N. Errors are
computed in this factored form: no N x N matrix is built for training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ristune.nearfield.geometry import Geometry, steering

# Lower and upper bounds by w (1 / metre), v and u.
Limits = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Grid:
    """Steering vectors over a regular grid in (u, v, 1 / range).

    Attributes:
        shape: (W, V, U), the numbers of points by 1 / range, v and u; G = W V U, u varying fastest.
        points: (u, v, w), [G, 3].
        responses: [G, N], complex64.
        gram: |a_g^H a_h|^2, [G, G], float32.
    """

    shape: tuple[int, int, int]
    points: Tensor
    responses: Tensor
    gram: Tensor

    def to(self, device: torch.device) -> "Grid":
        """The same grid on another device."""
        if self.points.device == device:
            return self
        return Grid(self.shape, self.points.to(device), self.responses.to(device), self.gram.to(device))


def build_grid(geometry: Geometry, shape: tuple[int, int, int], limits: Limits, gram: bool = True) -> Grid:
    """A grid of regular axes.

    Args:
        geometry: the surface.
        shape: points by w, v and u.
        limits: lower and upper bound by w (1 / metre), v and u.
        gram: whether to compute the Gram matrix; without, it has no elements.
    """
    axes = [torch.linspace(low, high, count) for count, (low, high) in zip(shape, limits, strict=True)]
    w, v, u = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([u, v, w], dim=-1).reshape(-1, 3)
    responses = steering(geometry, points)
    atoms = responses if gram else responses[:0]
    return Grid(shape, points, responses, (atoms.conj() @ atoms.T).abs().square())


@dataclass(frozen=True)
class Prediction:
    """`R_pred` in factored form; the map and the floor sum to 1.

    Attributes:
        gamma: [B, G], float32, non-negative.
        floor: [B], float32, non-negative.
    """

    gamma: Tensor
    floor: Tensor


def identity(count: int, grid: Grid) -> Prediction:
    """R_pred = I for `count` scenes: what a dead network predicts."""
    gamma = grid.gram.new_zeros(count, len(grid.gram))
    return Prediction(gamma, gamma.new_ones(count))


def beamspace(snapshots: Tensor, grid: Grid) -> Tensor:
    """Power of snapshots in the direction of each grid point, `a_g^H R_samp a_g = mean_l |a_g^H x_l|^2`.

    Args:
        snapshots: x, [B, L, N], complex64.
        grid: G points.

    Returns:
        [B, G], float32.
    """
    return torch.view_as_real(snapshots @ grid.responses.mH).square().sum(-1).mean(dim=1)


def sample_covariance(snapshots: Tensor, diagonal: Tensor) -> Tensor:
    """R_samp = mean_l x_l x_l^H + diag(d), [B, N, N], complex64.

    Args:
        snapshots: x, scaled, [B, L, N], complex64.
        diagonal: d, [B, N], float32.
    """
    matrix = snapshots.mT @ snapshots.conj() / snapshots.shape[1]
    return hermitian(matrix + torch.diag_embed(diagonal.to(matrix.dtype)))


def hermitian(matrix: Tensor) -> Tensor:
    """The Hermitian part of matrices, [..., N, N]: rounding leaves them beside it."""
    return (matrix + matrix.mH) / 2


def predicted_covariance(prediction: Prediction, grid: Grid) -> Tensor:
    """R_pred as matrices, [B, N, N], complex64; for estimators, not for training."""
    a = grid.responses
    eye = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    matrices = [(a * gamma[:, None]).mT @ a.conj() for gamma in prediction.gamma]
    return hermitian(torch.stack(matrices) + prediction.floor[:, None, None] * eye)


def blend(predicted: Tensor, sample: Tensor, beta: float) -> Tensor:
    """The effective covariance, `beta R_pred + (1 - beta) R_samp`, of trace N as both are."""
    return beta * predicted + (1 - beta) * sample


@dataclass(frozen=True)
class Moments:
    """Inner products of one scene's covariances, from which every NMSE follows; [B] each.

    Attributes:
        pred_pred: ||R_pred||_F^2.
        pred_true: <R_pred, R>.
        true_true: ||R||_F^2.
        samp_samp: ||R_samp||_F^2.
        samp_true: <R_samp, R>.
        samp_pred: <R_samp, R_pred>.
    """

    pred_pred: Tensor
    pred_true: Tensor
    true_true: Tensor
    samp_samp: Tensor
    samp_true: Tensor
    samp_pred: Tensor


def moments(
    prediction: Prediction,
    grid: Grid,
    factor: Tensor,
    snapshots: Tensor,
    diagonal: Tensor,
    sample_map: Tensor,
) -> Moments:
    """Inner products of prediction, truth and sample covariance, without an N x N matrix.

    `||R_pred||^2 = gamma^T |A^H A|^2 gamma + 2 floor N sum(gamma) + floor^2 N`, and
    `<R_pred, R> = sum_g gamma_g ||a_g^H F||^2 + floor tr(R)`. R_samp is S + diag(d), S = X^T X* / L:
    every product with it is one with S and one of diagonals.

    Args:
        prediction: R_pred.
        grid: its grid.
        factor: F of the truth R = F F^H, [B, N, K], complex64.
        snapshots: x of R_samp, scaled, [B, L, N], complex64.
        diagonal: d, [B, N], float32.
        sample_map: the `beamspace` of these snapshots, [B, G].
    """
    gamma, floor = prediction.gamma, prediction.floor
    n = factor.shape[1]
    true_map = torch.view_as_real(factor.mT @ grid.responses.mH).square().sum(-1).sum(dim=1)
    count = snapshots.shape[1]
    on_diagonal = torch.view_as_real(snapshots).square().sum(-1).mean(1)
    true_diagonal = torch.view_as_real(factor).square().sum(dim=(-1, -2))
    predicted_diagonal = gamma @ torch.view_as_real(grid.responses).square().sum(-1) + floor.unsqueeze(1)
    return Moments(
        pred_pred=((gamma @ grid.gram) * gamma).sum(1) + 2 * floor * n * gamma.sum(1) + floor.square() * n,
        pred_true=(gamma * true_map).sum(1) + floor * _energy(factor),
        true_true=_energy(factor.mH @ factor),
        samp_samp=_energy(snapshots.conj() @ snapshots.mT) / count**2
        + ((2 * on_diagonal + diagonal) * diagonal).sum(1),
        samp_true=_energy(snapshots.conj() @ factor) / count + (diagonal * true_diagonal).sum(1),
        samp_pred=(gamma * sample_map).sum(1)
        + floor * on_diagonal.sum(1)
        + (diagonal * predicted_diagonal).sum(1),
    )


def nmse(of: Moments, beta: float) -> Tensor:
    """`||R_blend - R||^2 / ||R||^2`, [B], `beta` being the prediction's weight; 1 is R_pred alone."""
    square = beta**2 * of.pred_pred + 2 * beta * (1 - beta) * of.samp_pred + (1 - beta) ** 2 * of.samp_samp
    cross = beta * of.pred_true + (1 - beta) * of.samp_true
    return (square - 2 * cross + of.true_true) / of.true_true


def best_constant(factor: Tensor) -> Tensor:
    """The matrix of least mean NMSE: the mean of R weighted by 1 / ||R||^2, [N, N].

    Args:
        factor: F of each truth R = F F^H, [B, N, K], complex64.
    """
    weight = 1 / (factor.mH @ factor).abs().square().sum(dim=(1, 2))
    flat = (factor * weight.sqrt()[:, None, None]).transpose(0, 1).flatten(1)
    return (flat @ flat.mH) / weight.sum()


def constant_error(constant: Tensor, factor: Tensor, true_true: Tensor) -> Tensor:
    """NMSE of one matrix for every scene, [B].

    Args:
        constant: [N, N], complex64.
        factor: F of each truth R = F F^H, [B, N, K], complex64.
        true_true: ||R||_F^2, [B].
    """
    cross = (factor.conj() * (constant @ factor)).real.sum(dim=(1, 2))
    return (constant.abs().square().sum() - 2 * cross + true_true) / true_true


def _energy(values: Tensor) -> Tensor:
    """Sum of squared moduli over the last two dimensions, [B]."""
    return torch.view_as_real(values).square().sum(dim=(-1, -2, -3))
