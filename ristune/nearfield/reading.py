"""Rows of imported files in our convention: which conjugations and permutations undo another simulator's."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.archives import Archive, Sizes
from ristune.nearfield.checking import fit
from ristune.nearfield.conventions import Convention
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.inferring import (
    LARGEST_UNEXPLAINED,
    Labels,
    from_covariances,
    from_snapshots,
    of_rank_one,
)

# Rows that are looked at to tell conventions, those of them whose R is, and those of highest SNR whose y is.
SAMPLE_ROWS, COVARIANCE_ROWS, CLEAR_ROWS = 512, 48, 32
# Rows in memory at a time: R of 144 elements takes 21 MB in complex128.
BLOCK = 64
# Another way to read y explains at most this share of what the right one does.
OTHER_LINK = 0.5
# ||H - H_full c|| / ||H|| of the same numbers in float32.
SAME_CHANNEL = 1e-3


@dataclass(frozen=True)
class Link:
    """What must be conjugated for y_l = H D(c_l) A s_l to hold with A by the labels' own convention."""

    y: bool
    channel: bool
    codes: bool

    def apply(self, y: Tensor, channel: Tensor, codes: Tensor, conjugate: bool) -> tuple[Tensor, ...]:
        """y, H_full and codes in our convention; `conjugate` as in `Convention`."""
        bits = (self.y, self.channel, self.codes)
        return tuple(
            part.conj().resolve_conj() if bit != conjugate else part
            for part, bit in zip((y, channel, codes), bits, strict=True)
        )

    def __str__(self) -> str:
        """The equation that the files follow."""
        channel, codes, field = ("^*" if part else "" for part in (self.channel, self.codes, self.y))
        return f"y{field} = H_full{channel} D(codes{codes}) A s"


@dataclass(frozen=True)
class Found:
    """How files are to be read.

    Attributes:
        convention: of labels and covariance.
        coherent: whether R is of rank 1 where there are several sources.
        link: of snapshots to labels.
        effective: what H is, or an empty text.
    """

    convention: Convention
    coherent: bool
    link: Link
    effective: str


@dataclass(frozen=True)
class Rows:
    """Rows in our convention.

    Attributes:
        num_sources: K, [B], int64; so many slots are taken.
        slots: K as labelled and the number of ranges that are not 0, [B, 2], int64.
        azimuth: [B, K_max], radians, float32.
        elevation: [B, K_max], radians, float32.
        distance: [B, K_max], metres, float32.
        snr_db: as labelled, [B], float32.
    """

    num_sources: Tensor
    slots: Tensor
    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    snr_db: Tensor


@dataclass(frozen=True)
class Reader:
    """Files one after the other as one long list of rows."""

    archives: Sequence[Archive]
    sizes: Sizes
    geometry: Geometry

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each file, and one past the last."""
        return np.cumsum([0, *(archive.rows for archive in self.archives)])

    def read(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """Rows of an array as stored, [n, ...].

        Args:
            name: of the array.
            rows: ascending, of all files, [n].
        """
        parts = [archive.read(name, of) for archive, of in self._split(rows)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def labels(self, rows: NDArray[np.int64]) -> Rows:
        """Labels as stored; slots beyond K are 0.

        Raises:
            InputError: if K is not a whole number from 1 and below the number of antennas, an angle is not in
                radians, or a range is negative.
        """
        ptr = self.read("ptr", rows).reshape(len(rows), 3, -1)
        stated = self.read("K", rows)[:, 0]
        taken = (ptr[:, 2] != 0).cumprod(dim=1).sum(dim=1)
        count = torch.minimum(stated.round().long(), taken)
        wrong = (stated != stated.round()) | (count < 1) | (count >= self.sizes.antennas)
        self._refuse(wrong, rows, "K", stated, "K must be whole, at least 1 and below the number of antennas")
        present = torch.arange(ptr.shape[2]) < count.unsqueeze(1)
        azimuth, elevation, distance = (ptr * present.unsqueeze(1)).unbind(1)
        turn = torch.maximum(azimuth.abs(), elevation.abs()).amax(1)
        self._refuse(turn > 2 * torch.pi, rows, "ptr", turn, "azimuth and elevation must be radians")
        least = distance.amin(1)
        self._refuse(least < 0, rows, "ptr", least, "a range is above 0, or 0 where there is no source")
        slots = torch.stack([stated.long(), taken], dim=1)
        return Rows(count, slots, azimuth, elevation, distance, self.read("snr", rows)[:, 0])

    def snapshots(self, rows: NDArray[np.int64], found: Found) -> tuple[Tensor, ...]:
        """The snapshots y [n, L, M], H [n, M, N] and codes [n, L, N] in our convention, complex64."""
        places = found.convention.permutation(self.geometry)
        return found.link.apply(
            self.read("y", rows),
            self.read("H_full", rows)[..., places],
            self.read("codes", rows)[..., places],
            found.convention.conjugate,
        )

    def covariance(self, rows: NDArray[np.int64], found: Found) -> Tensor:
        """R in our convention, [n, N, N], complex128."""
        places = found.convention.permutation(self.geometry)
        ours = self.read("R", rows)[:, places][:, :, places].to(torch.complex128)
        return ours.conj().resolve_conj() if found.convention.conjugate else ours

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """All rows in order, none from two files at once."""
        for first, end in itertools.pairwise(self.starts.tolist()):
            for start in range(first, end, BLOCK):
                yield np.arange(start, min(start + BLOCK, end))

    def place(self, row: int) -> tuple[str, int]:
        """File of a row, and its place there."""
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.archives[index].path, row - int(self.starts[index])

    def _split(self, rows: NDArray[np.int64]) -> Iterator[tuple[Archive, NDArray[np.int64]]]:
        cuts = np.searchsorted(rows, self.starts)
        for archive, start, (first, end) in zip(
            self.archives, self.starts, itertools.pairwise(cuts.tolist()), strict=False
        ):
            if end > first:
                yield archive, rows[first:end] - start

    def _refuse(self, wrong: Tensor, rows: NDArray[np.int64], name: str, values: Tensor, rule: str) -> None:
        if wrong.any():
            first = int(wrong.nonzero()[0, 0])
            path, row = self.place(int(rows[first]))
            raise InputError(
                path, f"array {name!r}, row {row}: {float(values[first]):g}", rule, "correct the labels"
            )


def find(reader: Reader, seed: int) -> Found:
    """Tell from a random sample of rows how files are to be read.

    Raises:
        InputError: if no named convention fits, or more than one; see `inferring`.
    """
    total = int(reader.starts[-1])
    chosen = np.random.default_rng(seed).permutation(total)[:SAMPLE_ROWS]
    rows = np.sort(chosen)
    labels = reader.labels(rows)
    clear = np.sort(labels.snr_db.argsort(descending=True)[:CLEAR_ROWS].numpy())
    effective, conjugate = _effective(reader, rows[clear])
    if "R" in reader.sizes.arrays:
        some = np.sort(chosen[:COVARIANCE_ROWS])
        covariance = reader.read("R", some).to(torch.complex128)
        several = reader.labels(some).num_sources > 1
        coherent = bool(several.any() and of_rank_one(covariance[several]).all())
        convention = from_covariances(_as_found(reader.labels(some)), covariance, coherent, reader.geometry)
    else:
        coherent = False
        codes = reader.read("codes", rows[clear])
        codes = codes.conj().resolve_conj() if conjugate else codes
        parts = reader.read("y", rows[clear]), reader.read("H_full", rows[clear]), codes
        convention = from_snapshots(_as_found(reader.labels(rows[clear])), *parts, reader.geometry)
    link = _find_link(reader, rows[clear], convention)
    return Found(convention, coherent, link, effective)


def _as_found(rows: Rows) -> Labels:
    return Labels(rows.azimuth, rows.elevation, rows.distance)


def _effective(reader: Reader, rows: NDArray[np.int64]) -> tuple[str, bool]:
    """What the effective channel is of H_full and the codes, and whether the codes are conjugated in it."""
    if "H" not in reader.sizes.arrays:
        return "", False
    stored, channel, codes = (reader.read(name, rows) for name in ("H", "H_full", "codes"))
    errors = []
    for each in (codes, codes.conj().resolve_conj()):
        rest = torch.linalg.vector_norm(stored - each @ channel.mT)
        errors.append(float(rest / torch.linalg.vector_norm(stored)))
    if min(errors) > SAME_CHANNEL:
        return f"neither H_full codes (residual {errors[0]:.2g}) nor H_full codes^* ({errors[1]:.2g})", False
    return ("H_full codes", False) if errors[0] <= errors[1] else ("H_full codes^*", True)


def _find_link(reader: Reader, rows: NDArray[np.int64], convention: Convention) -> Link:
    """The link under which the labels explain the snapshots."""
    labels = reader.labels(rows)
    geometry = reader.geometry
    factor = _as_found(labels).responses(convention, geometry).mT.to(torch.complex64)
    places = convention.permutation(geometry)
    channel, codes = (reader.read(name, rows)[..., places] for name in ("H_full", "codes"))
    y = reader.read("y", rows)
    both = (False, True)
    explained: dict[Link, float] = {}
    # What is real is the same conjugated: then the candidates would tie.
    for bits in itertools.product(both, both[: 2 - _real(channel)], both[: 2 - _real(codes)]):
        link = Link(*bits)
        ours = link.apply(y, channel, codes, convention.conjugate)
        explained[link] = float(fit(ours[0], ours[1], ours[2], factor).explained().median())
    ranked = sorted(explained, key=explained.__getitem__, reverse=True)
    best, second = ranked[:2]
    if explained[best] < 1 - LARGEST_UNEXPLAINED or explained[second] > OTHER_LINK * explained[best]:
        table = "".join(f"\n  {explained[link]:.3f}  {link}" for link in ranked)
        raise InputError(
            "y",
            f"{explained[best]:.3f} at best",
            f"the labelled sources must explain the snapshots through H_full and codes, at least a share of "
            f"{1 - LARGEST_UNEXPLAINED:.1f} of their energy beyond chance in the {len(rows)} scenes of "
            f"highest snr, and one way twice as much as any other; shares (^*: conjugated):{table}",
            "check that rows of y, H_full, codes and ptr belong together",
        )
    return best


def _real(values: Tensor) -> bool:
    return bool(values.imag.abs().max() <= 1e-6 * values.abs().max())
