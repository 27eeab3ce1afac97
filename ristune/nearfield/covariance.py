"""Covariances at the surface: ridge recovery from coded snapshots, the predicted map, and their blend.

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


def build_grid(geometry: Geometry, shape: tuple[int, int, int], limits: Limits) -> Grid:
    """A grid of regular axes.

    Args:
        geometry: the surface.
        shape: points by w, v and u.
        limits: lower and upper bound by w (1 / metre), v and u.
    """
    axes = [torch.linspace(low, high, count) for count, (low, high) in zip(shape, limits, strict=True)]
    w, v, u = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([u, v, w], dim=-1).reshape(-1, 3)
    responses = steering(geometry, points)
    gram = (responses.conj() @ responses.T).abs().square()
    return Grid(shape, points, responses, gram)


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


def ridge_snapshots(y: Tensor, h: Tensor, codes: Tensor, alpha: Tensor, unit_modulus: bool) -> Tensor:
    """Ridge estimates of the surface field from coded snapshots, in the dual form.

    `x_l = Phi_l^H (Phi_l Phi_l^H + alpha I)^-1 y_l` with Phi_l = H D(c_l). For codes of unit modulus
    `Phi_l Phi_l^H = H H^H` for every l: one M x M Cholesky factor a scene serves all snapshots; otherwise
    each has its own. The normal equations (N x N) are not only slower but wrong in complex64.

    Args:
        y: snapshots, [B, L, M], complex64.
        h: channel H, [B, M, N], complex64.
        codes: c, [B, L, N], complex64.
        alpha: ridge, [B], float32.
        unit_modulus: whether all codes have modulus 1.

    Returns:
        [B, L, N], complex64.
    """
    eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
    ridge = alpha[:, None, None] * eye
    if unit_modulus:
        factor = torch.linalg.cholesky(h @ h.mH + ridge)
        return codes.conj() * (h.mH @ torch.cholesky_solve(y.mT, factor)).mT
    coded = h.unsqueeze(1) * codes.unsqueeze(2)
    factor = torch.linalg.cholesky(coded @ coded.mH + ridge.unsqueeze(1))
    return (coded.mH @ torch.cholesky_solve(y.unsqueeze(-1), factor)).squeeze(-1)


def ridge_parameter(y: Tensor, h: Tensor, codes: Tensor, noise_var: Tensor) -> Tensor:
    """The ridge sigma^2 / p, with the power p of an element's field estimated from the snapshots themselves.

    `E |y|^2 = p mean_l tr(Phi_l Phi_l^H) / M + sigma^2`; p is kept above 1 % of the total so that the ridge
    stays finite.

    Args:
        y: [B, L, M], complex64.
        h: [B, M, N], complex64.
        codes: c, [B, L, N], complex64.
        noise_var: sigma^2, [B], float32.

    Returns:
        alpha, [B], float32.
    """
    received = y.abs().square().mean(dim=(1, 2))
    gain = (h.abs().square().mean(1) * codes.abs().square().mean(1)).sum(1)
    power = torch.maximum(received - noise_var, 0.01 * received) / gain
    return noise_var / power


def normalise(snapshots: Tensor) -> Tensor:
    """Scale snapshots so that their sample covariance `X^H X / L` has trace N.

    Args:
        snapshots: [B, L, N], complex64.
    """
    power = snapshots.abs().square().mean(dim=(1, 2))
    return snapshots * torch.rsqrt(power.clamp(min=torch.finfo(power.dtype).tiny))[:, None, None]


def beamspace(snapshots: Tensor, grid: Grid) -> Tensor:
    """Power of snapshots in the direction of each grid point, `a_g^H R_samp a_g = mean_l |a_g^H x_l|^2`.

    Args:
        snapshots: x, [B, L, N], complex64.
        grid: G points.

    Returns:
        [B, G], float32.
    """
    return torch.view_as_real(snapshots @ grid.responses.mH).square().sum(-1).mean(dim=1)


def sample_covariance(snapshots: Tensor) -> Tensor:
    """R_samp = mean_l x_l x_l^H, [B, N, N], of snapshots x, [B, L, N]."""
    return snapshots.mT @ snapshots.conj() / snapshots.shape[1]


def predicted_covariance(prediction: Prediction, grid: Grid) -> Tensor:
    """R_pred as matrices, [B, N, N], complex64; for estimators, not for training."""
    a = grid.responses
    eye = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    matrices = [(a * gamma[:, None]).mT @ a.conj() for gamma in prediction.gamma]
    return torch.stack(matrices) + prediction.floor[:, None, None] * eye


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
    prediction: Prediction, grid: Grid, factor: Tensor, snapshots: Tensor, sample_map: Tensor
) -> Moments:
    """Inner products of prediction, truth and sample covariance, without an N x N matrix.

    `||R_pred||^2 = gamma^T |A^H A|^2 gamma + 2 floor N sum(gamma) + floor^2 N`, and
    `<R_pred, R> = sum_g gamma_g ||a_g^H F||^2 + floor tr(R)`.

    Args:
        prediction: R_pred.
        grid: its grid.
        factor: F of the truth R = F F^H, [B, N, K], complex64.
        snapshots: normalised ridge snapshots, [B, L, N], complex64.
        sample_map: their `beamspace`, [B, G].
    """
    gamma, floor = prediction.gamma, prediction.floor
    n = factor.shape[1]
    true_map = torch.view_as_real(factor.mT @ grid.responses.mH).square().sum(-1).sum(dim=1)
    count = snapshots.shape[1]
    return Moments(
        pred_pred=((gamma @ grid.gram) * gamma).sum(1) + 2 * floor * n * gamma.sum(1) + floor.square() * n,
        pred_true=(gamma * true_map).sum(1) + floor * _energy(factor),
        true_true=_energy(factor.mH @ factor),
        samp_samp=_energy(snapshots.conj() @ snapshots.mT) / count**2,
        samp_true=_energy(snapshots.conj() @ factor) / count,
        samp_pred=(gamma * sample_map).sum(1) + floor * _energy(snapshots) / count,
    )


def nmse(of: Moments, beta: float) -> Tensor:
    """`||R_blend - R||^2 / ||R||^2`, [B], `beta` being the prediction's weight; 1 is R_pred alone."""
    square = beta**2 * of.pred_pred + 2 * beta * (1 - beta) * of.samp_pred + (1 - beta) ** 2 * of.samp_samp
    cross = beta * of.pred_true + (1 - beta) * of.samp_true
    return (square - 2 * cross + of.true_true) / of.true_true


def _energy(values: Tensor) -> Tensor:
    """Sum of squared moduli over the last two dimensions, [B]."""
    return torch.view_as_real(values).square().sum(dim=(-1, -2, -3))
