"""The files that are imported: which arrays they hold, of what sizes, and their rows as complex numbers.

Each is a file by `numpy.savez` with the arrays below, real numbers, real and imaginary part as a last axis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.npz import Member, open_npz

# n rows, L snapshots, M antennas, N elements; ptr is K azimuths, K elevations, K ranges, padded with zeros.
SHAPES = {
    "y": "n L M 2",
    "H_full": "n M N 2",
    "codes": "n L N 2",
    "ptr": "n P",
    "K": "n",
    "snr": "n",
    "H": "n L M 2",
    "R": "n N N 2",
}
OPTIONAL = ("H", "R")
COMPLEX = tuple(name for name, shape in SHAPES.items() if shape.endswith(" 2"))


@dataclass(frozen=True)
class Sizes:
    """Sizes that all files share.

    Attributes:
        snapshots: L.
        antennas: M.
        elements: N.
        sources: slots for sources, K_max.
        arrays: names of the arrays that every file has.
    """

    snapshots: int
    antennas: int
    elements: int
    sources: int
    arrays: frozenset[str]


@dataclass(frozen=True)
class Archive:
    """One file.

    Attributes:
        path: where it is.
        rows: how many it has.
        members: its arrays by name.
    """

    path: str
    rows: int
    members: Mapping[str, Member]

    def read(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """Rows of an array, [n, ...]: complex64, or float32 for labels.

        Args:
            name: of `SHAPES`.
            rows: ascending, [n].

        Raises:
            InputError: naming file, array and row of a value that is not finite, or of a row that is zero.
        """
        values = torch.from_numpy(np.ascontiguousarray(self.members[name].read(rows), dtype="<f4"))
        # A sum is not finite if a term is not, and needs no mask of the array's size.
        sums = values.flatten(1).abs().sum(dim=1) if values.ndim > 1 else values.abs()
        wrong = ~torch.isfinite(sums) | ((sums == 0) & (name in COMPLEX))
        if wrong.any():
            place = int(wrong.nonzero()[0, 0])
            kind = "zeros only" if sums[place] == 0 else "NaN or infinite"
            raise InputError(
                self.path,
                f"array {name!r}, row {int(rows[place])}: {kind}",
                "every value must be finite, and no row of snapshots, channel, codes or covariance all zero",
                "leave the row out, or write the file again",
            )
        return torch.view_as_complex(values) if name in COMPLEX else values.reshape(len(rows), -1)


def open_archives(paths: Sequence[str]) -> tuple[list[Archive], Sizes]:
    """Open files of one data set; nothing but headers is read.

    Raises:
        InputError: if an array is missing or of another shape than the others say, or files differ.
    """
    opened = [_open(path) for path in paths]
    archives = [archive for archive, _ in opened]
    first = opened[0][1]
    for archive, sizes in opened[1:]:
        if sizes != first:
            raise InputError(
                archive.path,
                sizes,
                f"all files must have the sizes and arrays of {archives[0].path}: {first}",
                "import files of one kind at a time",
            )
    return archives, first


def _open(path: str) -> tuple[Archive, Sizes]:
    members = open_npz(path, SHAPES)
    if "H_full" not in members:
        raise InputError(
            path,
            sorted(members),
            "the array 'H_full' [n, M, N, 2], the channel from each element to each antenna, is required: "
            "the effective channel H tells only L of the N numbers of each antenna, and without all of them "
            "the field at the surface cannot be told from y",
            "write H_full into the files, or simulate the data anew (python -m ristune.simulate)",
        )
    missing = [name for name in SHAPES if name not in members and name not in OPTIONAL]
    if missing:
        rule = f"the arrays {', '.join(name for name in SHAPES if name not in OPTIONAL)} are required"
        raise InputError(path, sorted(members), rule, f"add {', '.join(missing)}")
    known: dict[str, int] = {"2": 2}
    for name, member in members.items():
        wanted = SHAPES[name].split()
        shape = (*member.shape[:1], *(size for size in member.shape[1:] if len(wanted) > 1 or size != 1))
        found = dict(zip(wanted, shape, strict=False))
        if len(shape) != len(wanted) or any(known.setdefault(k, size) != size for k, size in found.items()):
            said = ", ".join(f"{k} = {size}" for k, size in known.items() if k != "2")
            rule = f"its shape must be [{', '.join(wanted)}], with {said}"
            raise InputError(path, f"{name}: {list(member.shape)}", rule, "write the file again")
    if known["P"] % 3 or not known["n"]:
        rule = "it must hold as many azimuths as elevations and ranges, and at least one row"
        raise InputError(path, f"ptr: [{known['n']}, {known['P']}]", rule, "write the file again")
    sizes = Sizes(known["L"], known["M"], known["N"], known["P"] // 3, frozenset(members))
    return Archive(path, known["n"], members), sizes


def base_name(path: str) -> str:
    """What a manifest says of where a file was: its name alone."""
    return Path(path).name
