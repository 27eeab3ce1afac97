"""Shards as another simulator would have written them: our scenes in its conventions."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ristune.nearfield.codes import code_values
from ristune.nearfield.conventions import Convention, forms
from ristune.nearfield.scene import covariance_factor
from ristune.nearfield.simulator import NearFieldSimulator
from tests.nearfield.conftest import GEOMETRY, simulator

OURS = next(forms())


def complex_parts(values: Any) -> np.ndarray:
    """Complex numbers as float32 with re and im as a last axis."""
    values = np.asarray(values)
    return np.stack([values.real, values.imag], axis=-1).astype(np.float32)


def old_labels(batch: dict[str, torch.Tensor], convention: Convention) -> list[torch.Tensor]:
    """Azimuth, elevation and range as the convention has them, of the same points.

    Found by inverting `Convention.points` numerically would prove nothing: each is written out here.
    """
    azimuth, elevation, distance = (batch[name].double() for name in ("azimuth", "elevation", "range"))
    u, v = azimuth.sin() * elevation.cos(), elevation.sin()
    present = distance > 0
    if convention.origin == "first element":
        x = (1 - u**2 - v**2).sqrt()
        first = GEOMETRY.elements()[0].double()
        place = torch.stack([x, u, v], -1) * distance.unsqueeze(-1) - first
        distance = torch.linalg.vector_norm(place, dim=-1)
        u, v = place[..., 1] / distance, place[..., 2] / distance
    if convention.mirror in ("u", "u and v"):
        u = -u
    if convention.mirror in ("v", "u and v"):
        v = -v
    if convention.unit == "wavelength":
        distance = distance / GEOMETRY.wavelength
    inverse = {
        "u = sin az cos el, v = sin el": lambda: (torch.asin(u / (1 - v**2).sqrt()), torch.asin(v)),
        "u = sin az, v = sin el": lambda: (torch.asin(u), torch.asin(v)),
        "u = cos az cos el, v = sin el": lambda: (torch.acos(u / (1 - v**2).sqrt()), torch.asin(v)),
        "u = sin az, v = cos az sin el": lambda: (torch.asin(u), torch.asin(v / (1 - u**2).sqrt())),
        "u = cos az sin el, v = sin az sin el": lambda: (torch.atan2(v, u), torch.asin((u**2 + v**2).sqrt())),
        "u = sin az sin el, v = cos el": lambda: (torch.asin(u / (1 - v**2).sqrt()), torch.acos(v)),
        "u = cos az sin el, v = cos el": lambda: (torch.acos(u / (1 - v**2).sqrt()), torch.acos(v)),
    }[convention.direction]
    return [torch.where(present, part, 0.0).float() for part in (*inverse(), distance)]


def old_shard(
    rows: int,
    seed: int = 0,
    convention: Convention = OURS,
    source: NearFieldSimulator | None = None,
    trace: str = "N",
    wrong_labels: str = "",
) -> dict[str, np.ndarray]:
    """The arrays of one shard.

    Args:
        rows: scenes.
        seed: of the scenes.
        convention: of labels, elements and sign; its wavefront must be ours.
        source: what draws the scenes; by default the tests' simulator with H in float32.
        trace: of R: `N`, `K`, `N K` or `1`.
        wrong_labels: `iid`: R as if the sources were incoherent.
    """
    source = source or simulator(channel_dtype="f4")
    drawn = source.draw(rows, np.random.default_rng(seed))
    batch = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in drawn.items()}
    labels = [batch[name] for name in ("azimuth", "elevation", "range", "power", "phase")]
    factor = covariance_factor(*labels, GEOMETRY, wrong_labels or source.scene.source_model)
    covariance = factor @ factor.mH
    count = batch["num_sources"].float()
    scale = {"N": 1, "K": count / GEOMETRY.size, "N K": count, "1": 1 / GEOMETRY.size}[trace]
    covariance = covariance * torch.as_tensor(scale).reshape(-1, 1, 1)
    y, h = (torch.view_as_complex(batch[name].float()) for name in ("y", "h"))
    codes = torch.from_numpy(code_values(source.codebook)).expand(rows, -1, -1)
    places = torch.argsort(convention.permutation(GEOMETRY))
    if convention.conjugate:
        y, h, codes, covariance = (part.conj().resolve_conj() for part in (y, h, codes, covariance))
    h, codes = h[..., places], codes[..., places]
    covariance = covariance[:, places][:, :, places]
    return {
        "y": complex_parts(y),
        "H": complex_parts(codes @ h.mT),
        "H_full": complex_parts(h),
        "codes": complex_parts(codes),
        "ptr": torch.cat(old_labels(batch, convention), dim=1).numpy(),
        "K": count.numpy(),
        "snr": batch["snr_db"].numpy(),
        "R": complex_parts(covariance),
        "R_samp": np.zeros((rows, GEOMETRY.size, GEOMETRY.size, 2), np.float32),
    }


def save(path: Path, shard: dict[str, np.ndarray], without: tuple[str, ...] = ("R_samp",)) -> str:
    """Write a shard by numpy.savez and give its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: values for name, values in shard.items() if name not in without})
    return str(path)
