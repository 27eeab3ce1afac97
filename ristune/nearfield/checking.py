"""Labels held against data: whether the labelled sources explain the snapshots, up to the labelled noise.

A snapshot is y_l = H D(c_l) A s_l + n_l. Whatever the symbols s_l are, what is left of y_l outside of the
span of H D(c_l) A is noise in M - K dimensions, of known variance: twice its energy over sigma^2 is
chi-square with 2 L (M - K) degrees of freedom. Wrong angles, ranges, codes, channels or noise all show in it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ristune.nearfield.sensing import observe

# Standard deviates that no sound row, and no sound batch, of a million reaches.
ROW_DEVIATES, BATCH_DEVIATES = 7.0, 6.0
# By how much a noise variance that was itself estimated may be off on average.
TOLERANCE = 0.02
# Energy of what rounding H to float16 adds to y, relative to y.
ROUNDING = 10**-7.4
# Coherence is measured where symbols stand out of the noise, and means something over enough snapshots.
COHERENT, CLEAR_SNR_DB, LEAST_SNAPSHOTS, LEAST_ROWS = 0.8, 10.0, 4, 8
POWER_TOLERANCE = 1e-3
# Scenes fitted at a time: the coded responses of one take 100 kB.
BLOCK = 256


@dataclass(frozen=True)
class Fit:
    """Snapshots fitted by labelled sources, B scenes.

    Attributes:
        unexplained: energy outside of the span of the sources, [B], float64.
        received: energy of all snapshots, [B], float64.
        dimensions: complex dimensions of a scene's snapshots, L M.
        freedom: those outside of the span, L (M - K), [B], float64.
        symbols: least-squares symbols, [B, L, K], complex128; 0 for absent sources.
    """

    unexplained: Tensor
    received: Tensor
    dimensions: int
    freedom: Tensor
    symbols: Tensor

    def noise_var(self) -> Tensor:
        """The noise variance as the residual tells it, [B], float64."""
        return self.unexplained / self.freedom

    def explained(self) -> Tensor:
        """Share of the energy that the sources explain beyond what chance would, [B], float64.

        Wrong sources explain about 0, right ones SNR / (1 + SNR).
        """
        return 1 - self.noise_var() * self.dimensions / self.received


def fit(y: Tensor, h: Tensor, codes: Tensor, factor: Tensor) -> Fit:
    """Fit snapshots by sources, the symbols of each snapshot free.

    Args:
        y: snapshots, [B, L, M], complex64.
        h: channel H, [B, M, N], complex64.
        codes: c, [B, L, N], complex64.
        factor: responses of the sources at the surface, [B, N, K], complex64, zero for absent sources.
    """
    _, snapshots, antennas = y.shape
    spans = observe(h, codes, factor).to(torch.complex128)
    wide = y.to(torch.complex128).unsqueeze(-1)
    gram = spans.mH @ spans
    absent = torch.diagonal(gram, dim1=-2, dim2=-1).real == 0
    # In float64 a ridge this small moves nothing, and two sources in one place are still solved.
    scale = torch.diagonal(gram, dim1=-2, dim2=-1).real.mean(-1, keepdim=True)
    loaded = gram + torch.diag_embed(torch.where(absent, 1.0, 1e-12 * scale).to(gram.dtype))
    matched = spans.mH @ wide
    symbols = torch.cholesky_solve(matched, torch.linalg.cholesky(loaded))
    received = wide.abs().square().sum(dim=(1, 2, 3))
    unexplained = received - (matched.conj() * symbols).real.sum(dim=(1, 2, 3))
    rank = (~absent[:, 0]).sum(-1)
    freedom = snapshots * (antennas - rank).double()
    return Fit(unexplained.clamp(min=0), received, snapshots * antennas, freedom, symbols[..., 0])


def coherence(symbols: Tensor) -> Tensor:
    """Mean squared correlation over snapshots of the symbols of the scene's pairs of sources, [B], float64.

    1 for constant symbols, 1 / L for independent ones; NaN where there are fewer than two sources.

    Args:
        symbols: [B, L, K], complex128, 0 for absent sources.
    """
    energy = symbols.abs().square().sum(dim=1)
    product = (symbols.mH @ symbols).abs().square()
    pair = energy.unsqueeze(-1) * energy.unsqueeze(-2)
    pair = pair * (1 - torch.eye(pair.shape[-1], dtype=pair.dtype))
    correlation = torch.where(pair > 0, product / torch.where(pair > 0, pair, 1.0), 0.0)
    return correlation.sum(dim=(1, 2)) / (pair > 0).sum(dim=(1, 2))


def check(
    batch: Mapping[str, Tensor], codes: Tensor, factor: Tensor, source_model: str, exact: bool
) -> list[str]:
    """What is wrong with rows of a near-field dataset: their labels against their snapshots.

    Args:
        batch: columns as they are stored, [B, ...], on the CPU.
        codes: [B, L, N], complex64.
        factor: of the labels' covariance, [B, N, K], complex64.
        source_model: `iid` or `static`.
        exact: whether channel and elements are known exactly; if not, sources leave more than noise.

    Returns:
        One text a finding; none if all is sound.
    """
    findings = _check_labels(batch)
    if findings:
        return findings
    fitted = _fit_in_blocks(batch, codes, factor)
    found = (
        _check_snr(fitted, batch),
        _check_residual(fitted, batch, exact),
        _check_model(fitted, batch, source_model),
    )
    return [text for text in found if text]


def _fit_in_blocks(batch: Mapping[str, Tensor], codes: Tensor, factor: Tensor) -> Fit:
    parts = []
    for first in range(0, len(factor), BLOCK):
        rows = slice(first, first + BLOCK)
        h = torch.view_as_complex(batch["h"][rows].float())
        parts.append(fit(torch.view_as_complex(batch["y"][rows]), h, codes[rows], factor[rows]))
    return Fit(
        unexplained=torch.cat([part.unexplained for part in parts]),
        received=torch.cat([part.received for part in parts]),
        dimensions=parts[0].dimensions,
        freedom=torch.cat([part.freedom for part in parts]),
        symbols=torch.cat([part.symbols for part in parts]),
    )


def _check_labels(batch: Mapping[str, Tensor]) -> list[str]:
    """Labels by themselves: bounds, padding, and the number of sources."""
    slots = torch.arange(batch["range"].shape[1])
    present = slots < batch["num_sources"].unsqueeze(1)
    labels = ("azimuth", "elevation", "range", "power", "phase")
    padding = sum(batch[name].abs() for name in labels) * ~present
    half = math.pi / 2 + 1e-6
    wrong = {
        "num_sources is not 1 to the number of slots": (batch["num_sources"] < 1)
        | (batch["num_sources"] > len(slots)),
        "range is not above 0 for each of the num_sources": ((batch["range"] <= 0) & present).any(1),
        "slots beyond num_sources are not 0": (padding > 0).any(1),
        "azimuth or elevation lies beyond a right angle": (
            (batch["azimuth"].abs() > half) | (batch["elevation"].abs() > half)
        ).any(1),
        "power is negative or does not sum to 1": (batch["power"] < 0).any(1)
        | ((batch["power"].sum(1) - 1).abs() > POWER_TOLERANCE),
        "noise_var is not above 0": batch["noise_var"] <= 0,
    }
    return [f"{text}: {_rows(rows, batch)}" for text, rows in wrong.items() if rows.any()]


def _check_snr(fitted: Fit, batch: Mapping[str, Tensor]) -> str:
    """The received power is (1 + SNR) sigma^2, up to what chance adds over L M noise samples."""
    noise = batch["noise_var"].double()
    snr = 10 ** (batch["snr_db"].double() / 10)
    deviate = fitted.received / noise - (1 + snr) * fitted.dimensions
    deviate = deviate / (fitted.dimensions * (1 + 2 * snr)).sqrt()
    bad = deviate.abs() > ROW_DEVIATES
    # A rounded snr_db shifts every row alike: relative to the signal, it is within the tolerance.
    slack = TOLERANCE * (fitted.dimensions * (1 + snr) / (fitted.dimensions * (1 + 2 * snr)).sqrt()).mean()
    pooled = deviate.mean().abs() > BATCH_DEVIATES / len(deviate) ** 0.5 + slack
    if not bad.any() and not pooled:
        return ""
    ratio = (fitted.received / fitted.dimensions / noise / (1 + snr)).median()
    return (
        f"snr_db and noise_var contradict y: the received power is {ratio:.3g} times (1 + SNR) noise_var "
        f"(median); {_rows(bad, batch)}"
    )


def _check_residual(fitted: Fit, batch: Mapping[str, Tensor], exact: bool) -> str:
    """What the labelled sources leave of y is noise, no less and, if all is known exactly, no more."""
    noise = batch["noise_var"].double()
    least, most = noise, noise + ROUNDING * fitted.received / fitted.dimensions
    bad = _deviate(fitted, least) < -ROW_DEVIATES
    if exact:
        bad |= _deviate(fitted, most) > ROW_DEVIATES
    freedom = fitted.freedom.sum()
    slack = TOLERANCE + BATCH_DEVIATES / freedom.sqrt()
    high = (fitted.unexplained / most).sum() / freedom
    low = (fitted.unexplained / least).sum() / freedom
    if not bad.any() and (high < 1 + slack or not exact) and low > 1 - slack:
        return ""
    return (
        f"the labels do not explain y: what the sources at azimuth, elevation and range leave of it has "
        f"{high:.3g} times the energy that noise_var gives it (sound: {1 - slack:.3f} to {1 + slack:.3f}); "
        f"{_rows(bad, batch)}"
    )


def _check_model(fitted: Fit, batch: Mapping[str, Tensor], source_model: str) -> str:
    """Constant symbols give a field of rank 1, whatever the rank of the labelled covariance."""
    clear = (batch["snr_db"] >= CLEAR_SNR_DB) & (batch["num_sources"] > 1)
    symbols = fitted.symbols[clear]
    if source_model == "static" or symbols.shape[1] < LEAST_SNAPSHOTS or len(symbols) < LEAST_ROWS:
        return ""
    measured = coherence(symbols).median()
    if measured < COHERENT:
        return ""
    return (
        f"the sources are coherent but labelled incoherent (iid): the squared correlation of their symbols "
        f"is {measured:.2f} (median), where independent ones have {1 / symbols.shape[1]:.2f}"
    )


def _deviate(fitted: Fit, noise_var: Tensor) -> Tensor:
    """The standard normal deviate of a chi-square variable, after Wilson and Hilferty, [B]."""
    freedom = 2 * fitted.freedom
    ratio = 2 * fitted.unexplained / noise_var / freedom
    spread = 2 / (9 * freedom)
    return (ratio ** (1 / 3) - (1 - spread)) / spread.sqrt()


def _rows(bad: Tensor, batch: Mapping[str, Tensor]) -> str:
    """The first rows of those that are bad, by place and id."""
    places = bad.nonzero()[:3, 0].tolist()
    if not places:
        return f"no single one of the {len(bad)} rows stands out"
    named = ", ".join(f"row {place} (scene_id {int(batch['scene_id'][place])})" for place in places)
    return f"{int(bad.sum())} of {len(bad)} rows, first {named}"
