"""A picture of one scene: where the snapshots say that power comes from, and where the sources are."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ristune.nearfield.covariance import Limits
from ristune.nearfield.geometry import Geometry, cosines, steering
from ristune.nearfield.recovery import SampleOptions, recover

# Points by 1 / range, v and u.
SHAPE = (6, 61, 121)
SHOWN_DB = 12.0


def draw(batch: Mapping[str, Tensor], codes: Tensor, geometry: Geometry, limits: Limits, axes: Any) -> None:
    """Draw the beamspace power of the ridge-recovered snapshots over (u, v), the largest over range.

    Args:
        batch: columns of one scene as they are stored, [1, ...], on the CPU.
        codes: [1, L, N], complex64.
        geometry: the surface.
        limits: bounds by 1 / range, v and u.
        axes: matplotlib axes.
    """
    power = scene_map(batch, codes, geometry, limits)
    _, v, u = limits
    image = axes.imshow(
        (10 * torch.log10(power / power.max())).numpy(),
        origin="lower",
        extent=(*u, *v),
        aspect="auto",
        vmin=-SHOWN_DB,
        vmax=0,
    )
    axes.figure.colorbar(image, ax=axes, label="beamspace power [dB]")
    count = int(batch["num_sources"][0])
    azimuth, elevation, distance = (batch[name][0, :count] for name in ("azimuth", "elevation", "range"))
    at = cosines(azimuth, elevation, 1 / distance)[:, :2]
    axes.scatter(*at.T.numpy(), marker="o", s=90, facecolors="none", edgecolors="red", label="true sources")
    for place, metres in zip(at.tolist(), distance.tolist(), strict=True):
        axes.annotate(
            f"{metres:.1f} m", place, xytext=(7, 5), textcoords="offset points", color="white", weight="bold"
        )
    axes.set_xlabel("u = sin(az) cos(el)")
    axes.set_ylabel("v = sin(el)")
    axes.set_title(f"K = {count}, SNR {float(batch['snr_db'][0]):.1f} dB, at {_span(distance)}")
    axes.legend(loc="lower right")


def scene_map(batch: Mapping[str, Tensor], codes: Tensor, geometry: Geometry, limits: Limits) -> Tensor:
    """Beamspace power of one scene over v and u, the largest over 1 / range, [V, U], float32."""
    y, h = torch.view_as_complex(batch["y"]), torch.view_as_complex(batch["h"].float())
    # A factor a snapshot is right for codes of any modulus; one scene takes no time.
    plain = SampleOptions(debias=False, loading=0.0)
    snapshots = recover(y, h, codes, batch["noise_var"], False, plain).snapshots
    axes = [torch.linspace(low, high, count) for count, (low, high) in zip(SHAPE, limits, strict=True)]
    w, v, u = torch.meshgrid(*axes, indexing="ij")
    responses = steering(geometry, torch.stack([u, v, w], dim=-1))
    power = (responses.flatten(0, 2).conj() @ snapshots[0].T).abs().square().mean(dim=1)
    return power.reshape(SHAPE).amax(dim=0)


def _span(distance: Tensor) -> str:
    low, high = float(distance.min()), float(distance.max())
    return f"{low:.1f} m" if len(distance) == 1 else f"{low:.1f} to {high:.1f} m"
