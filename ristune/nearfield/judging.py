"""What a survey says of imported rows as a whole: how they were normalised, and what a user must know."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.nearfield.checking import CLEAR_SNR_DB, COHERENT, LEAST_ROWS, LEAST_SNAPSHOTS
from ristune.nearfield.reading import Found, Reader
from ristune.nearfield.survey import Survey

# A label of the SNR is taken at its word within these: median and interquartile range of the error, dB.
SNR_MEDIAN_DB, SNR_RANGE_DB = 0.5, 2.0
# Traces and powers that differ by less are equal; a floor below this share of the trace is rounding.
EQUAL = 1e-3
# Clear scenes of which the sources explain less than this share of what their SNR promises are out of place.
OUT_OF_PLACE = 0.5
# The smallest rms of a channel that float16 holds without loss.
LEAST_HALF, LARGEST_HALF = 1e-2, 1e2


@dataclass(frozen=True)
class Verdict:
    """How labels are to be written.

    Attributes:
        trace: the name of R's normalisation.
        power: where powers come from: `R`, `equal` or `snapshots`.
        noise: where noise_var comes from: `snr` or `residual`.
        source_model: `iid` or `static`.
        measured_coherent: whether the snapshots' sources are coherent; None where that cannot be told.
        lines: what there is to say, warnings first.
    """

    trace: str
    power: str
    noise: str
    source_model: str
    measured_coherent: bool | None
    lines: tuple[str, ...]


def judge(reader: Reader, found: Found, survey: Survey, relabel: bool) -> Verdict:
    """Judge what was found of all rows.

    Args:
        reader: the files.
        found: how they were read.
        survey: of their rows.
        relabel: whether coherent data are to get coherent labels, whatever R says.
    """
    coherent, coherence = measured_coherence(survey, reader.sizes.snapshots)
    told_by_r = "R" in reader.sizes.arrays
    static = found.coherent or bool(coherent and (relabel or not told_by_r))
    error = snr_error(survey)
    noise = "snr" if _consistent(error) else "residual"
    power = "R" if told_by_r and (found.coherent or not static) else "equal"
    if power == "equal" and not equal_powers(survey, static, reader.sizes.snapshots):
        power = "snapshots"
    trace = normalisation(survey, reader.sizes.elements) if told_by_r else "no R"
    warnings = [
        *_coherence_lines(found, coherent, coherence, static, told_by_r),
        *_link_lines(found),
        *_row_lines(reader, survey),
    ]
    if noise == "residual":
        low, middle, high = np.percentile(error, [25, 50, 75])
        warnings.append(
            f"snr differs from the data: measured minus labelled {middle:+.2f} dB (median; quartiles "
            f"{low:+.2f}, {high:+.2f}); snr_db and noise_var are measured from y instead"
        )
    lines = [
        f"convention: {found.convention}",
        f"snapshots: {found.link}" + (f"; H is {found.effective}" if found.effective else ""),
        f"R: {trace}, largest residual {survey.residual.max():.2g}" if told_by_r else "R: there is none",
        f"source model: {'static' if static else 'iid'}; powers: {_POWERS[power]}; noise_var by {noise}",
    ]
    return Verdict(
        trace,
        power,
        noise,
        "static" if static else "iid",
        coherent,
        (*(f"warning: {text}" for text in warnings), *lines),
    )


_POWERS = {
    "R": "by non-negative least squares of R",
    "equal": "equal, as the snapshots have them",
    "snapshots": "estimated from the snapshots",
}


def measured_coherence(survey: Survey, snapshots: int) -> tuple[bool | None, float]:
    """Whether the sources' symbols are coherent over snapshots, and their squared correlation (median)."""
    clear = (survey.snr_label >= CLEAR_SNR_DB) & (survey.num_sources > 1) & np.isfinite(survey.coherence)
    if clear.sum() < LEAST_ROWS or snapshots < LEAST_SNAPSHOTS:
        return None, math.nan
    measured = float(np.median(survey.coherence[clear]))
    return measured >= COHERENT, measured


def normalisation(survey: Survey, elements: int) -> str:
    """The named trace that R has in every row, N elements and K sources."""
    count = survey.num_sources
    one = np.ones(len(count))
    named = {
        "trace N": elements * one,
        "trace K": one * count,
        "trace N K": elements * one * count,
        "trace 1": one,
    }
    matching = [name for name, trace in named.items() if np.abs(survey.trace / trace - 1).max() < EQUAL]
    span = f"trace from {survey.trace.min():.3g} to {survey.trace.max():.3g}"
    name = matching[0] if matching else span
    slots = survey.power > 0
    mean = survey.power.sum(1, keepdims=True) / np.maximum(count[:, None], 1)
    equal = np.abs(survey.power / np.where(mean > 0, mean, 1) - 1)[slots].max(initial=0) < EQUAL
    floor = float(np.median(survey.floor))
    rest = f", {floor:.2g} of it in a multiple of the identity that labels leave out" if floor > EQUAL else ""
    return f"{name}, {'equal powers' if equal else 'powers differ'}{rest}"


def snr_error(survey: Survey) -> NDArray[np.float64]:
    """Measured minus labelled SNR, dB, of the scenes that say most: those from 0 dB, or all."""
    measured = measured_snr_db(survey)
    some = survey.snr_label >= 0
    return (measured - survey.snr_label)[some if some.any() else slice(None)]


def measured_snr_db(survey: Survey) -> NDArray[np.float64]:
    """The SNR that y has, `10 log10(mean |H D x|^2 / sigma^2)`, dB, [n]; not below -20 dB."""
    ratio = survey.received / survey.noise - 1
    return 10 * np.log10(np.maximum(ratio, 1e-2))


def equal_powers(survey: Survey, static: bool, snapshots: int) -> bool:
    """Whether powers estimated from y vary between the sources of a scene no more than chance makes them."""
    clear = (survey.snr_label >= CLEAR_SNR_DB) & (survey.num_sources > 1)
    if not clear.any():
        return True
    estimate = survey.symbol_power[clear].astype(float)
    present = survey.range[clear] > 0
    count = present.sum(1)
    mean = (estimate * present).sum(1) / count
    spread = (((estimate / mean[:, None] - 1) ** 2) * present).sum(1) / (count - 1)
    # The mean of L exponential variables; constant symbols do not vary.
    chance = 0.05 if static else 1.5 / snapshots
    return bool(np.median(spread) <= chance)


def _consistent(error: NDArray[np.float64]) -> bool:
    low, middle, high = np.percentile(error, [25, 50, 75])
    return bool(abs(middle) <= SNR_MEDIAN_DB and high - low <= SNR_RANGE_DB)


def _coherence_lines(
    found: Found, coherent: bool | None, measured: float, static: bool, told_by_r: bool
) -> list[str]:
    if coherent and not found.coherent and told_by_r:
        end = (
            "labels are written as coherent" if static else "give importer.relabel=true for labels that match"
        )
        return [
            f"coherent data with incoherent labels: the symbols of a scene's sources have a squared "
            f"correlation of {measured:.3f} (median): the snapshots have rank 1 where R has rank K; {end}"
        ]
    if coherent is False and found.coherent:
        return [
            f"incoherent data with coherent labels: R has rank 1, and the symbols of a scene's sources a "
            f"squared correlation of {measured:.3f} (median)"
        ]
    return []


def _link_lines(found: Found) -> list[str]:
    lines = []
    link = found.link
    if link.y or link.channel or link.codes:
        lines.append(f"labels and snapshots agree only as {link}: it is undone")
    if found.effective.startswith("neither"):
        lines.append(f"H is {found.effective}; it is not used")
    return lines


def _row_lines(reader: Reader, survey: Survey) -> list[str]:
    lines = []
    if survey.mismatch.any():
        path, row = reader.place(int(survey.mismatch.argmax()))
        lines.append(
            f"K differs from the number of ranges in {int(survey.mismatch.sum())} rows, first {path} row "
            f"{row}; the smaller is taken"
        )
    snr = 10 ** (measured_snr_db(survey) / 10)
    promised = 10 ** (survey.snr_label.astype(float) / 10)
    clear = survey.snr_label >= CLEAR_SNR_DB
    lost = clear & (survey.explained < OUT_OF_PLACE * np.minimum(1, promised / (1 + promised)))
    lost &= snr < OUT_OF_PLACE * promised
    if lost.any():
        path, row = reader.place(int(lost.argmax()))
        lines.append(
            f"{int(lost.sum())} of {int(clear.sum())} rows from {CLEAR_SNR_DB:g} dB are not explained by "
            f"their sources, first {path} row {row}: labels of another scene"
        )
    return lines


def scene_bounds(survey: Survey, rows: NDArray[np.int64]) -> Mapping[str, Any]:
    """What scenes lie in, as the simulator's parameters have it: degrees, metres, K."""
    present = survey.range[rows] > 0
    degrees = {
        f"{name}_deg": np.rad2deg(getattr(survey, name)[rows][present]) for name in ("azimuth", "elevation")
    }
    values = {**degrees, "range_m": survey.range[rows][present], "num_sources": survey.num_sources[rows]}
    # Float32 labels on a bound must not lie outside of it.
    bounds = {
        name: [round(float(each.min()), 4), round(float(each.max()), 4)] for name, each in values.items()
    }
    return {**bounds, "num_sources": [int(each) for each in bounds["num_sources"]]}
