"""Cramer-Rao bounds: how well any unbiased estimator can place the sources of a scene.

The model is `y_l = B_l s_l + n_l`, B_l = Phi_l A(theta), n_l circular with variance sigma^2. Everything is in
double precision. Stoica and Nehorai, "Performance study of conditional and unconditional direction-of-arrival
estimation", 1990, have the conditional and the unconditional bound.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ristune.nearfield.geometry import Geometry, cosines
from ristune.nearfield.sensing import observe_sources


@dataclass(frozen=True)
class Sources:
    """True sources of B scenes, each with all of its K columns in use, in double precision.

    Attributes:
        azimuth: [B, K], radians.
        elevation: [B, K], radians.
        range: [B, K], metres.
    """

    azimuth: Tensor
    elevation: Tensor
    range: Tensor

    def points(self) -> Tensor:
        """(u, v, w), [B, K, 3]."""
        return cosines(self.azimuth, self.elevation, 1 / self.range)

    def slopes(self) -> Tensor:
        """Derivatives of (u, v, w) by (azimuth, elevation, range), [B, K, 3, 3], the point's index first."""
        zero = torch.zeros_like(self.azimuth)
        sin_az, cos_az = torch.sin(self.azimuth), torch.cos(self.azimuth)
        sin_el, cos_el = torch.sin(self.elevation), torch.cos(self.elevation)
        by_u = torch.stack([cos_az * cos_el, -sin_az * sin_el, zero], dim=-1)
        by_v = torch.stack([zero, cos_el, zero], dim=-1)
        by_w = torch.stack([zero, zero, -self.range.square().reciprocal()], dim=-1)
        return torch.stack([by_u, by_v, by_w], dim=-2)

    def position_slopes(self) -> Tensor:
        """Derivatives of (x, y, z), metres, by (azimuth, elevation, range), [B, K, 3, 3]."""
        zero = torch.zeros_like(self.azimuth)
        sin_az, cos_az = torch.sin(self.azimuth), torch.cos(self.azimuth)
        sin_el, cos_el = torch.sin(self.elevation), torch.cos(self.elevation)
        r = self.range
        x = torch.stack([-r * sin_az * cos_el, -r * cos_az * sin_el, cos_az * cos_el], dim=-1)
        y = torch.stack([r * cos_az * cos_el, -r * sin_az * sin_el, sin_az * cos_el], dim=-1)
        z = torch.stack([zero, r * cos_el, sin_el], dim=-1)
        return torch.stack([x, y, z], dim=-2)


@dataclass(frozen=True)
class Bound:
    """Least standard deviations, [B, K] each.

    Attributes:
        azimuth: radians.
        elevation: radians.
        range: metres.
        inverse_range: 1 / metre, to the first order.
        position: root of the mean squared 3-D error, metres.
    """

    azimuth: Tensor
    elevation: Tensor
    range: Tensor
    inverse_range: Tensor
    position: Tensor


def conditional_information(views: Tensor, slopes: Tensor, symbols: Tensor, noise_var: Tensor) -> Tensor:
    """Fisher information of the sources' parameters, the symbols being unknown and arbitrary.

    `J = (2 / sigma^2) sum_l Re{(D_l S_l)^H P_perp(B_l) (D_l S_l)}`. For symbols that are constant over the
    snapshots (`static`) stack the snapshots: [B, 1, L M, K], one symbol a source.

    Args:
        views: B_l, [B, L, M, K], complex128.
        slopes: D_l by P parameters of each source, [B, L, M, K, P].
        symbols: s, [B, L, K].
        noise_var: sigma^2, [B].

    Returns:
        [B, K P, K P], the parameters of one source beside each other.
    """
    moved = (slopes * symbols[:, :, None, :, None]).flatten(-2)
    basis = torch.linalg.qr(views).Q
    left = moved - basis @ (basis.mH @ moved)
    information: Tensor = (left.mH @ left).real.sum(1)
    return 2 / noise_var[:, None, None] * information


def unconditional_information(views: Tensor, slopes: Tensor, power: Tensor, noise_var: Tensor) -> Tensor:
    """Fisher information of the sources' parameters, for Gaussian symbols of unknown power and unknown noise.

    Slepian and Bangs: `J_ij = sum_l tr(R_l^-1 R_l,i R_l^-1 R_l,j)` with `R_l = B_l P B_l^H + sigma^2 I` over
    (theta, p, sigma^2); powers and noise are then eliminated.

    Args:
        views: B_l, [B, L, M, K], complex128.
        slopes: D_l by P parameters of each source, [B, L, M, K, P].
        power: p, [B, K].
        noise_var: sigma^2, [B].

    Returns:
        [B, K P, K P], the parameters of one source beside each other.
    """
    antennas = views.shape[2]
    eye = torch.eye(antennas, dtype=views.dtype, device=views.device)
    covariance = (views * power[:, None, None, :]) @ views.mH + noise_var[:, None, None, None] * eye
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, views, upper=False)
    moved = torch.linalg.solve_triangular(root, slopes.flatten(-2), upper=False)
    moved = moved.unflatten(-1, slopes.shape[3:])
    # Whitened derivatives of R_l, one a parameter: by theta, by p, by sigma^2.
    outer = torch.einsum("blmkp,blnk,bk->blkpmn", moved, white.conj(), power.to(views))
    by_theta = (outer + outer.mH).flatten(2, 3)
    by_power = torch.einsum("blmk,blnk->blkmn", white, white.conj())
    inverse = torch.linalg.solve_triangular(root, eye, upper=False)
    by_noise = (inverse @ inverse.mH).unsqueeze(2)
    parts = torch.cat([by_theta, by_power, by_noise], dim=2).flatten(-2)
    information = (parts @ parts.mH).real.sum(1)
    return _eliminate(information, by_theta.shape[2])


def bounds(information: Tensor, sources: Sources) -> Bound:
    """Bounds for sources from the information of (azimuth, elevation, range), [B, 3 K, 3 K].

    Where the data do not tell, the information is singular: the bound is NaN or infinite, or
    torch.linalg.LinAlgError is raised.
    """
    count, number = sources.azimuth.shape
    # Scaled to a unit diagonal first: metres and radians differ by orders of magnitude.
    scale = torch.diagonal(information, dim1=-2, dim2=-1).rsqrt()
    scaled = information * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    covariance = torch.linalg.inv(scaled) * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    blocks = covariance.reshape(count, number, 3, number, 3)
    own = torch.diagonal(blocks, dim1=1, dim2=3).movedim(-1, 1)
    placed = sources.position_slopes()
    spread = (placed @ own @ placed.mT).diagonal(dim1=-2, dim2=-1).sum(-1)
    azimuth, elevation, distance = own.diagonal(dim1=-2, dim2=-1).sqrt().unbind(-1)
    return Bound(azimuth, elevation, distance, distance / sources.range.square(), spread.sqrt())


def conditional_bound(
    h: Tensor, codes: Tensor, sources: Sources, symbols: Tensor, noise_var: Tensor, geometry: Geometry
) -> Bound:
    """The bound for given symbols: what conditional maximum likelihood is measured against.

    Args:
        h: channel H, [B, M, N], complex.
        codes: c, [B, L, N], complex.
        sources: the true ones.
        symbols: s with the sources' amplitude, [B, L, K]; [B, 1, K] if they are known to be constant.
        noise_var: sigma^2, [B].
        geometry: the surface.
    """
    views, slopes = _seen(h, codes, sources, geometry)
    if symbols.shape[1] == 1:
        views, slopes = views.flatten(1, 2).unsqueeze(1), slopes.flatten(1, 2).unsqueeze(1)
    return bounds(
        conditional_information(views, slopes, symbols.to(torch.complex128), noise_var.double()), sources
    )


def unconditional_bound(
    h: Tensor, codes: Tensor, sources: Sources, power: Tensor, noise_var: Tensor, geometry: Geometry
) -> Bound:
    """The bound for Gaussian symbols of the given powers, [B, K], that are unknown as the noise is."""
    views, slopes = _seen(h, codes, sources, geometry)
    information = unconditional_information(views, slopes, power.double(), noise_var.double())
    return bounds(information, sources)


def _seen(h: Tensor, codes: Tensor, sources: Sources, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """B_l and its derivatives by (azimuth, elevation, range)."""
    wide = h.to(torch.complex128), codes.to(torch.complex128)
    views, slopes = observe_sources(*wide, sources.points(), geometry)
    return views, torch.einsum("blmkq,bkqp->blmkp", slopes, sources.slopes().to(slopes.dtype))


def _eliminate(information: Tensor, wanted: int) -> Tensor:
    """The information of the first parameters when the others are unknown: the Schur complement."""
    own, cross = information[:, :wanted, :wanted], information[:, :wanted, wanted:]
    known: Tensor = cross @ torch.linalg.solve(information[:, wanted:, wanted:], cross.mT)
    return own - known
