"""What the base station sees of sources: their responses through codes and channel, and their slopes."""

import torch
from torch import Tensor

from ristune.nearfield.geometry import Geometry, steering_jacobian


def observe(h: Tensor, codes: Tensor, vectors: Tensor) -> Tensor:
    """Vectors at the surface as the antennas see them, `Phi_l v = H D(c_l) v`.

    Args:
        h: channel H, [B, M, N], complex.
        codes: c, [B, L, N], complex.
        vectors: v, [B, N, K] of each scene, or [N, K] of all.

    Returns:
        [B, L, M, K], complex.
    """
    count, length, size = codes.shape
    # One product a scene: the codes turn K vectors into L K.
    coded = codes.mT.unsqueeze(-1) * vectors.unsqueeze(-2)
    seen = h @ coded.reshape(count, size, -1)
    return seen.reshape(count, h.shape[1], length, -1).transpose(1, 2)


def observe_sources(h: Tensor, codes: Tensor, points: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Responses of sources at the base station, and their derivatives by (u, v, w).

    Args:
        h: channel H, [B, M, N], complex.
        codes: c, [B, L, N], complex.
        points: (u, v, w), [B, K, 3], of the precision of `h`.
        geometry: the surface.

    Returns:
        `B_l = Phi_l A`, [B, L, M, K], and `D_l`, [B, L, M, K, 3].
    """
    response, slope = steering_jacobian(geometry, points)
    both = torch.cat([response.unsqueeze(-1), slope], dim=-1)
    count, sources, size, _ = both.shape
    seen = observe(h, codes, both.transpose(1, 2).reshape(count, size, -1))
    seen = seen.reshape(*seen.shape[:-1], sources, 4)
    return seen[..., 0], seen[..., 1:]
