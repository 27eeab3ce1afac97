"""The sample covariance: ridge recovery of the field at the surface from coded snapshots.

R_samp = mean_l (t x_l) (t x_l)^H + diag(d), of trace N, in factored form: recovered snapshots x, a scale t of
each element, which is 1, and a diagonal d, which is 0, unless the covariance is debiased or loaded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ristune.errors import InputError

# What is added to the diagonal of a matrix that has no Cholesky factor, a share of its mean.
JITTER = 1e-4


@dataclass(frozen=True)
class SampleOptions:
    """How R_samp is made.

    Args:
        debias: undo what the ridge takes from each pair of elements.
        loading: the share of I, relative to R_samp, that is added before the trace is set to N again.

    Raises:
        InputError: if the loading is negative or not finite.
    """

    debias: bool
    loading: float

    def __post_init__(self) -> None:
        """Check the loading."""
        if not 0 <= self.loading < float("inf"):
            raise InputError(
                "task.sample.loading",
                self.loading,
                "it must be at least 0 and finite",
                "set task.sample.loading",
            )


@dataclass(frozen=True)
class Recovered:
    """What B scenes' snapshots tell of the field at the surface.

    Attributes:
        snapshots: x, [B, L, N], complex64; mean_l x_l x_l^H has trace N.
        scale: t, [B, N], float32: R_samp = mean_l (t x_l) (t x_l)^H + diag(d).
        diagonal: d, [B, N], float32.
        ridge: alpha, [B], float32.
        jittered: whether a factor of the ridge exists only with jitter, [B], bool.
    """

    snapshots: Tensor
    scale: Tensor
    diagonal: Tensor
    ridge: Tensor
    jittered: Tensor


def recover(
    y: Tensor, h: Tensor, codes: Tensor, noise_var: Tensor, unit_modulus: bool, options: SampleOptions
) -> Recovered:
    """Ridge recovery, and R_samp in factored form.

    A snapshot of ridge recovery is x_l = Q_l f_l + noise, Q_l = Phi_l^H (Phi_l Phi_l^H + alpha I)^-1 Phi_l.
    Diverse codes leave little of the mean of Q_l but its diagonal q, so that elements i and j have the
    covariance q_i q_j R_ij, and the diagonal is too large. Debiased, x is divided by q, the diagonal set to
    the power of an element.

    Args:
        y: snapshots, [B, L, M], complex64.
        h: channel H, [B, M, N], complex64.
        codes: c, [B, L, N], complex64.
        noise_var: sigma^2, [B], float32.
        unit_modulus: whether all codes have modulus 1.
        options: how R_samp is made.
    """
    ridge = ridge_parameter(y, h, codes, noise_var)
    factor, jittered = ridge_factor(h, codes, ridge, unit_modulus)
    raw = ridge_snapshots(y, h, codes, factor)
    x = normalise(raw)
    scale = x.new_ones(len(x), x.shape[2], dtype=ridge.dtype)
    diagonal = torch.zeros_like(scale)
    if options.debias:
        tiny = torch.finfo(ridge.dtype).tiny
        power = noise_var / ridge
        size = _power(raw).mean(dim=(1, 2)).clamp(min=tiny).sqrt()
        scale = (size * power.rsqrt()).unsqueeze(1) / _kept(h, codes, factor).clamp(min=tiny)
        diagonal = 1 - scale.square() * _power(x).mean(1)
    total = 1 + options.loading
    return Recovered(x, scale / total**0.5, (diagonal + options.loading) / total, ridge, jittered)


def ridge_factor(h: Tensor, codes: Tensor, alpha: Tensor, unit_modulus: bool) -> tuple[Tensor, Tensor]:
    """Cholesky factors of Phi_l Phi_l^H + alpha I, Phi_l = H D(c_l).

    For codes of unit modulus `Phi_l Phi_l^H = H H^H` for every l: one factor a scene serves all snapshots.

    Args:
        h: channel H, [B, M, N], complex64.
        codes: c, [B, L, N], complex64.
        alpha: ridge, [B], float32.
        unit_modulus: whether all codes have modulus 1.

    Returns:
        [B, 1 or L, M, M], complex64, and whether a scene's exist only with jitter, [B], bool.
    """
    coded = h.unsqueeze(1) if unit_modulus else h.unsqueeze(1) * codes.unsqueeze(2)
    eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
    factor, failed = factorise(coded @ coded.mH + alpha[:, None, None, None] * eye)
    return factor, failed.any(dim=1)


def ridge_snapshots(y: Tensor, h: Tensor, codes: Tensor, factor: Tensor) -> Tensor:
    """Ridge estimates of the surface field, in the dual form.

    `x_l = Phi_l^H (Phi_l Phi_l^H + alpha I)^-1 y_l`: M x M. The normal equations, N x N, are not only slower
    but wrong in complex64.

    Args:
        y: snapshots, [B, L, M], complex64.
        h: channel H, [B, M, N], complex64.
        codes: c, [B, L, N], complex64.
        factor: of `ridge_factor`.

    Returns:
        [B, L, N], complex64.
    """
    if factor.shape[1] == 1:
        weights = torch.cholesky_solve(y.mT, factor.squeeze(1)).mT
    else:
        weights = torch.cholesky_solve(y.unsqueeze(-1), factor).squeeze(-1)
    return codes.conj() * (weights @ h.conj())


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


def factorise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of Hermitian matrices, with jitter on the diagonal of those that have none.

    What has none with jitter either is given NaN, which whoever uses it meets. Nothing waits for a GPU.

    Args:
        matrix: [..., M, M].

    Returns:
        Lower factors, [..., M, M], and which have jitter, [...], bool.
    """
    factor, info = torch.linalg.cholesky_ex(matrix)
    failed = info != 0
    # On the CPU to look costs nothing; elsewhere both are computed, and the host waits for neither.
    if matrix.device.type == "cpu" and not failed.any():
        return factor, failed
    jitter = JITTER * matrix.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    again, info = torch.linalg.cholesky_ex(matrix + jitter[..., None, None] * eye)
    again = torch.where((info != 0)[..., None, None], torch.nan, again)
    return torch.where(failed[..., None, None], again, factor), failed


def _kept(h: Tensor, codes: Tensor, factor: Tensor) -> Tensor:
    """The diagonal of mean_l Q_l: what recovery keeps of each element, [B, N]."""
    if factor.shape[1] == 1:
        white = torch.linalg.solve_triangular(factor.squeeze(1), h, upper=False)
        return _power(white).sum(1) * _power(codes).mean(1)
    white = torch.linalg.solve_triangular(factor, h.unsqueeze(1), upper=False)
    return (_power(white).sum(2) * _power(codes)).mean(1)


def _power(values: Tensor) -> Tensor:
    return torch.view_as_real(values).square().sum(-1)
