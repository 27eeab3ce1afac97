"""Which convention labels follow, told by the covariances or snapshots that came with them.

Every named candidate is tried on a sample of scenes. The best one must leave little unexplained, and much
less than any other that is not the same for these labels; else nothing is guessed and residuals are shown.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.checking import fit
from ristune.nearfield.conventions import ORDERS, SIGNS, Convention, forms, same_responses
from ristune.nearfield.geometry import Geometry

# ||R - R_candidate|| / ||R||, which float32 labels and covariances stay far below.
LARGEST_RESIDUAL = 0.01
# The second best leaves at least so many times more: of R (amplitude), of y (energy).
CLEARLY, CLEARLY_IN_NOISE = 10.0, 1.1
# Of y, right labels leave about 1 / (1 + SNR) and wrong ones all.
LARGEST_UNEXPLAINED = 0.8
# Scenes of the first look at every candidate, candidates that are looked at again, candidates that are shown.
FIRST_LOOK, SHORTLIST, SHOWN = 2, 16, 8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """Labels of S scenes as they were found.

    Attributes:
        azimuth: [S, K], float32; so are `elevation` and `distance`, 0 where there is no source.
        elevation: [S, K].
        distance: [S, K].
    """

    azimuth: Tensor
    elevation: Tensor
    distance: Tensor

    def responses(self, convention: Convention, geometry: Geometry, count: int | None = None) -> Tensor:
        """Of the first scenes, in our order and with our sign, [S, K, N], complex128."""
        columns = (self.azimuth[:count], self.elevation[:count], self.distance[:count])
        return convention.responses(*columns, geometry)

    def stored(self, convention: Convention, geometry: Geometry) -> Tensor:
        """The responses as the other simulator had them, [S, K, N], complex128."""
        ours = self.responses(convention, geometry)
        other = torch.empty_like(ours)
        other[..., convention.permutation(geometry)] = ours.conj() if convention.conjugate else ours
        return other


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: on thousands of small products several only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class CovarianceFit:
    """Covariances written as sources.

    Attributes:
        power: of unit-modulus responses, [B, K].
        phase: of coherent sources, [B, K], radians; 0 for incoherent ones.
        floor: multiple of the identity, [B].
        residual: ||R - R_fit|| / ||R||, [B].
    """

    power: Floats
    phase: Floats
    floor: Floats
    residual: Floats


def fit_covariance(covariance: Tensor, responses: Tensor, coherent: bool) -> CovarianceFit:
    """The sources whose covariance is nearest.

    Args:
        covariance: R, [B, N, N], complex128.
        responses: A^T, [B, K, N], complex128, zero for absent sources.
        coherent: R = (A s)(A s)^H; otherwise R = A diag(p) A^H + floor I, with p and floor not negative.
    """
    flat = torch.view_as_real(covariance).flatten(1).numpy()
    energy = np.einsum("bi,bi->b", flat, flat)
    inner = responses.conj() @ responses.mT
    if coherent:
        field = rank_one(covariance)
        absent = inner.diagonal(dim1=1, dim2=2).real == 0
        solvable = inner + torch.diag_embed(absent.to(inner.dtype))
        symbols = torch.linalg.solve(solvable, responses.conj() @ field.unsqueeze(-1))
        nearest = (responses.mT @ symbols)[..., 0]
        rest = covariance - nearest.unsqueeze(2) * nearest.conj().unsqueeze(1)
        residual = torch.linalg.vector_norm(rest, dim=(1, 2)).numpy() / np.sqrt(energy)
        power, phase = symbols[..., 0].abs().square().numpy(), symbols[..., 0].angle().numpy()
        return CovarianceFit(power, phase, np.zeros(len(power)), residual)
    # The identity is one more atom: <a a^H, I> = |a|^2, <I, I> = N.
    length = inner.diagonal(dim1=1, dim2=2).real
    gram = torch.nn.functional.pad(inner.abs().square(), (0, 1, 0, 1))
    gram[:, -1, :-1] = gram[:, :-1, -1] = length
    gram[:, -1, -1] = covariance.shape[1]
    matched = (responses.conj() * (covariance @ responses.mT).mT).sum(-1).real
    trace = covariance.diagonal(dim1=1, dim2=2).real.sum(1, keepdim=True)
    moments = torch.cat([matched, trace], dim=1).numpy()
    power = _non_negative(gram.numpy(), moments)
    explained = 2 * (power * moments).sum(1) - np.einsum("bi,bij,bj->b", power, gram.numpy(), power)
    residual = np.sqrt(np.clip(1 - explained / energy, 0, None))
    return CovarianceFit(power[:, :-1], np.zeros_like(power[:, :-1]), power[:, -1], residual)


def rank_one(covariance: Tensor) -> Tensor:
    """The vector x of R = x x^H, [B, N], if R, [B, N, N], is of rank 1: a column of it, scaled."""
    best = covariance.diagonal(dim1=1, dim2=2).real.argmax(dim=1)
    rows = torch.arange(len(best))
    column = covariance[rows, :, best]
    vector: Tensor = column / covariance[rows, best, best].real.sqrt().unsqueeze(1)
    return vector


def of_rank_one(covariance: Tensor) -> Tensor:
    """Whether R, [B, N, N], is of rank 1, [B]."""
    field = rank_one(covariance)
    rest = torch.linalg.vector_norm(covariance - field.unsqueeze(2) * field.conj().unsqueeze(1), dim=(1, 2))
    whole: Tensor = torch.linalg.vector_norm(covariance, dim=(1, 2))
    return torch.lt(rest, LARGEST_RESIDUAL * whole)


def from_covariances(labels: Labels, covariance: Tensor, coherent: bool, geometry: Geometry) -> Convention:
    """The convention under which the labels give the covariances.

    Args:
        labels: of S scenes.
        covariance: R as stored, [S, N, N], complex128.
        coherent: as in `fit_covariance`.
        geometry: the surface.

    Raises:
        InputError: if no candidate does, or more than one.
    """
    variants = torch.stack([_undone(covariance, variant, geometry) for variant in _variants(next(forms()))])

    def residuals(form: Convention, count: int | None) -> list[float]:
        target = variants[:, :count]
        responses = labels.responses(form, geometry, count).expand(len(target), -1, -1, -1)
        found = fit_covariance(target.flatten(0, 1), responses.flatten(0, 1), coherent).residual
        # The median: single rows that are out of place are found, and named, when every row is looked at.
        return [float(each) for each in np.median(found.reshape(len(target), -1), axis=1)]

    return _decide("R", residuals, labels, geometry, LARGEST_RESIDUAL, CLEARLY)


def from_snapshots(labels: Labels, y: Tensor, h: Tensor, codes: Tensor, geometry: Geometry) -> Convention:
    """The convention under which the labelled sources explain the snapshots, where there are no covariances.

    Args:
        labels: of S scenes, best those of the highest SNR.
        y: as stored, [S, L, M], complex64.
        h: as stored, [S, M, N], complex64.
        codes: as stored, [S, L, N], complex64.
        geometry: the surface.

    Raises:
        InputError: if no candidate does, or more than one.
    """
    variants = []
    for variant in _variants(next(forms())):
        places = variant.permutation(geometry)
        parts = y, h[..., places], codes[..., places]
        variants.append([part.conj().resolve_conj() if variant.conjugate else part for part in parts])

    def residuals(form: Convention, count: int | None) -> list[float]:
        factor = labels.responses(form, geometry, count).mT.to(torch.complex64)
        fits = [fit(y[:count], h[:count], codes[:count], factor) for y, h, codes in variants]
        # A tenth of the scenes may be out of place.
        return [
            float((1 - each.explained()).sort().values[: math.ceil(0.9 * len(factor))].mean())
            for each in fits
        ]

    return _decide("y", residuals, labels, geometry, LARGEST_UNEXPLAINED, CLEARLY_IN_NOISE)


def _variants(form: Convention) -> list[Convention]:
    """The candidates that differ from a form in the order of elements and in sign alone."""
    return [replace(form, order=order, sign=sign) for order in ORDERS for sign in SIGNS]


def _undone(covariance: Tensor, convention: Convention, geometry: Geometry) -> Tensor:
    """Covariances, [S, N, N], in our order and with our sign."""
    places = convention.permutation(geometry)
    ours = covariance[:, places][:, :, places]
    return ours.conj().resolve_conj() if convention.conjugate else ours


def _decide(
    name: str,
    residuals: Callable[[Convention, int | None], list[float]],
    labels: Labels,
    geometry: Geometry,
    largest: float,
    clearly: float,
) -> Convention:
    candidates = [variant for form in forms() for variant in _variants(form)]
    scores: dict[Convention, float] = {}

    def score(form: Convention, count: int | None) -> None:
        # No path leads to a direction outside of the unit disk: such a candidate comes last.
        possible = torch.view_as_real(labels.responses(form, geometry, count)).isfinite().all()
        variants = _variants(form)
        scores.update(
            zip(variants, residuals(form, count) if possible else [math.inf] * len(variants), strict=True)
        )

    with one_thread():
        for form in forms():
            score(form, FIRST_LOOK)
        leading = sorted(candidates, key=scores.__getitem__)[:SHORTLIST]
        for form in dict.fromkeys(replace(each, order=ORDERS[0], sign=SIGNS[0]) for each in leading):
            score(form, None)
    ranked = sorted(candidates, key=scores.__getitem__)
    best = labels.stored(ranked[0], geometry)
    same = list(
        itertools.takewhile(lambda other: same_responses(best, labels.stored(other, geometry)), ranked)
    )
    others = ranked[len(same) :]
    table = "".join(f"\n  {scores[each]:.3g}  {each}" for each in [ranked[0], *others[: SHOWN - 1]])
    if not scores[ranked[0]] <= largest:
        raise InputError(
            name,
            f"residual {scores[ranked[0]]:.3g} at best",
            f"a known convention must explain it, with a residual of at most {largest}; residuals:{table}",
            "check task.geometry (rows, columns, spacing, wavelength) and labels, or simulate the data anew",
        )
    if scores[others[0]] < clearly * scores[ranked[0]]:
        raise InputError(
            name,
            f"residual {scores[ranked[0]]:.3g} and {scores[others[0]]:.3g} next",
            f"one convention must be {clearly:g} times better than any other; residuals:{table}",
            "give files with R in float32 or with a higher SNR, or simulate the data anew",
        )
    # Of candidates that no data tell apart, the one nearest to ours changes least.
    chosen = min(same, key=candidates.index)
    if chosen.wavefront != "spherical":
        raise InputError(
            name,
            f"{chosen.wavefront} wavefront (residual {scores[chosen]:.3g})",
            f"sources must have spherical wavefronts, whose phases no other point has; residuals:{table}",
            "simulate the data anew (python -m ristune.simulate)",
        )
    return chosen


def _non_negative(gram: Floats, moments: Floats) -> Floats:
    """Least squares `p^T G p - 2 b^T p` over p >= 0, [B, K]; atoms without energy get 0."""
    size = gram.shape[1]
    absent = np.einsum("bii->bi", gram) == 0
    ridge = 1e-13 * np.einsum("bii->b", gram)[:, None] + absent
    solvable = gram + ridge[:, :, None] * np.eye(size)
    power: Floats = np.linalg.solve(solvable, moments[..., None])[..., 0]
    for row in np.flatnonzero((power < 0).any(axis=1)):
        root = np.linalg.cholesky(solvable[row])
        power[row] = nnls(root.T, np.linalg.solve(root, moments[row]))[0]
    return power
