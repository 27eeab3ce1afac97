"""One pass over all rows before any is written: their labels in our convention, and what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.checking import coherence, fit
from ristune.nearfield.conventions import forms
from ristune.nearfield.inferring import LARGEST_RESIDUAL, fit_covariance, one_thread
from ristune.nearfield.reading import Found, Reader
from ristune.nearfield.simulator import identities

Array = NDArray[np.float32]
# A code is of unit modulus, and on the grid of phases, within what float32 and careless writing leave.
MODULUS, PHASE = 1e-3, 1e-2
PHASES_PER_RADIAN = 128 / np.pi


@dataclass(frozen=True)
class Survey:
    """What was found of every row; n rows of all files, K_max slots.

    Attributes:
        num_sources: [n], int32.
        azimuth: [n, K_max], radians, float32, 0 where there is no source.
        elevation: the same.
        range: [n, K_max], metres, the same.
        power: [n, K_max], float32: by R, not normalised; 0 where there is no R.
        phase: [n, K_max], radians, float32.
        symbols: mean least-squares symbol of y by source, [n, K_max], complex64.
        symbol_power: their mean squared modulus, [n, K_max], float32.
        snr_label: dB, [n], float32.
        received: mean |y|^2, [n], float64.
        noise: the noise variance that is left outside of the sources' span, [n], float64.
        explained: share of y's energy that the sources explain beyond chance, [n], float32.
        coherence: of the symbols, [n], float32; NaN for K = 1.
        trace: of R, [n], float64; 0 where there is no R.
        floor: share of the trace in a multiple of the identity, [n], float32.
        residual: of R, [n], float32.
        mismatch: whether K differs from the number of ranges, [n], bool.
        scene: digest of the labels, [n], int64.
        sample: digest of labels and snapshots, [n], int64.
        codes: digest of the codes, [n], int64.
        on_grid: whether the codes are phases of the grid of 256, [n], bool.
        channel_rms: of H_full, [n], float32.
    """

    num_sources: NDArray[np.int32]
    azimuth: Array
    elevation: Array
    range: Array
    power: Array
    phase: Array
    symbols: NDArray[np.complex64]
    symbol_power: Array
    snr_label: Array
    received: NDArray[np.float64]
    noise: NDArray[np.float64]
    explained: Array
    coherence: Array
    trace: NDArray[np.float64]
    floor: Array
    residual: Array
    mismatch: NDArray[np.bool_]
    scene: NDArray[np.int64]
    sample: NDArray[np.int64]
    codes: NDArray[np.int64]
    on_grid: NDArray[np.bool_]
    channel_rms: Array


def survey(reader: Reader, found: Found, progress: Callable[[int], None] | None) -> Survey:
    """Read every row once, a block at a time.

    Raises:
        InputError: naming file, array and row of a value that is not finite, of codes that are not of unit
            modulus, or of labels that do not give their R.
    """
    total = int(reader.starts[-1])
    columns: dict[str, NDArray[Any]] = {}
    with one_thread():
        for rows in reader.blocks():
            for name, values in vars(_block(reader, found, rows)).items():
                # Made once: small arrays kept from every block would leave holes that no later block fits in.
                if name not in columns:
                    columns[name] = np.empty((total, *values.shape[1:]), values.dtype)
                columns[name][rows] = values
            if progress is not None:
                progress(len(rows))
    return Survey(**columns)


def phases(codes: Tensor) -> tuple[Array, bool]:
    """Phases of codes in units of 2 pi / 256, in [0, 256), float32, and whether all are whole."""
    turned = (codes.angle().double().numpy() * PHASES_PER_RADIAN) % 256
    whole = np.rint(turned)
    if np.abs(turned - whole).max() <= PHASE:
        return (whole % 256).astype(np.float32), True
    return turned.astype(np.float32), False


def _block(reader: Reader, found: Found, rows: NDArray[np.int64]) -> Survey:
    stored = reader.labels(rows)
    labels = found.convention.labels(stored.azimuth, stored.elevation, stored.distance, reader.geometry)
    # In float64 by the convention that is ours: what labels, losses and estimators use from now on.
    responses = next(forms()).responses(*labels, reader.geometry)
    y, channel, codes = reader.snapshots(rows, found)
    _check_codes(reader, rows, codes)
    fitted = fit(y, channel, codes, responses.mT.to(torch.complex64))
    absent = (labels[2] == 0).numpy()
    power, phase, trace, floor, residual = _by_covariance(reader, found, rows, responses)
    told_by = [part.numpy() for part in (stored.num_sources, *labels)]
    return Survey(
        num_sources=stored.num_sources.numpy().astype(np.int32),
        azimuth=labels[0].numpy(),
        elevation=labels[1].numpy(),
        range=labels[2].numpy(),
        power=np.where(absent, 0, power).astype(np.float32),
        phase=np.where(absent, 0, phase).astype(np.float32),
        symbols=fitted.symbols.mean(1).numpy().astype(np.complex64),
        symbol_power=fitted.symbols.abs().square().mean(1).numpy().astype(np.float32),
        snr_label=stored.snr_db.numpy(),
        received=(fitted.received / fitted.dimensions).numpy(),
        noise=fitted.noise_var().numpy(),
        explained=fitted.explained().numpy().astype(np.float32),
        coherence=coherence(fitted.symbols).numpy().astype(np.float32),
        trace=trace,
        floor=floor.astype(np.float32),
        residual=residual.astype(np.float32),
        mismatch=(stored.slots[:, 0] != stored.slots[:, 1]).numpy(),
        scene=identities(*told_by),
        sample=identities(*told_by, y.numpy()),
        codes=identities(codes.numpy()),
        on_grid=np.full(len(rows), phases(codes)[1]),
        channel_rms=channel.abs().square().mean(dim=(1, 2)).sqrt().numpy(),
    )


def _by_covariance(
    reader: Reader, found: Found, rows: NDArray[np.int64], responses: Tensor
) -> tuple[NDArray[np.float64], ...]:
    """Power, phase, trace, share of the floor and residual of each row's R."""
    if "R" not in reader.sizes.arrays:
        nothing = np.zeros(len(rows))
        slots = np.zeros(responses.shape[:2])
        return slots, slots, nothing, nothing, nothing
    covariance = reader.covariance(rows, found)
    fitted = fit_covariance(covariance, responses, found.coherent)
    bad = ~(fitted.residual <= LARGEST_RESIDUAL)
    if bad.any():
        path, row = reader.place(int(rows[bad.argmax()]))
        raise InputError(
            path,
            f"array 'R', row {row}: residual {fitted.residual[bad.argmax()]:.3g}",
            f"azimuth, elevation and range of a row must give its R within {LARGEST_RESIDUAL}, as elsewhere "
            f"({int(bad.sum())} of the {len(rows)} rows around it do not)",
            "leave these rows out, or put labels and R of the same scene into one row",
        )
    trace = covariance.diagonal(dim1=1, dim2=2).real.sum(1).numpy()
    return fitted.power, fitted.phase, trace, fitted.floor * covariance.shape[1] / trace, fitted.residual


def _check_codes(reader: Reader, rows: NDArray[np.int64], codes: Tensor) -> None:
    off = (codes.abs() - 1).abs().flatten(1).amax(1)
    if (off > MODULUS).any():
        place = int((off > MODULUS).nonzero()[0, 0])
        path, row = reader.place(int(rows[place]))
        raise InputError(
            path,
            f"array 'codes', row {row}: modulus off by {float(off[place]):.3g}",
            "codes must have unit modulus: a surface that shifts phases alone",
            "move amplitudes that are the same in every snapshot into H_full, or simulate the data anew",
        )
