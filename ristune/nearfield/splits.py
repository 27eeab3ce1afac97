"""Which imported row goes to which split, and scenes that occur more than once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristune.errors import InputError
from ristune.nearfield.simulator import identities

SPLITS = ("train", "val", "test")
DUPLICATES = ("refuse", "drop", "allow")
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Rows that are there already, in the order train, val, test.

    Attributes:
        within: by split, rows that occur earlier in it.
        across: by pair of splits, rows of the second that occur in the first.
    """

    within: Mapping[str, int]
    across: Mapping[str, int]

    def __str__(self) -> str:
        """All counts that are not 0, in words."""
        parts = [f"{count} within {name}" for name, count in self.within.items() if count]
        return ", ".join([*parts, *(f"{count} of {name}" for name, count in self.across.items() if count)])


def share(rows: int, shares: Sequence[float], seed: int) -> dict[str, Indices]:
    """Rows cut at random into train, val and test.

    Args:
        rows: how many there are.
        shares: of each split; only their ratios count.
        seed: of the choice.

    Raises:
        InputError: if a share is negative, none is left for training, or there are not three.
    """
    if len(shares) != len(SPLITS) or min(shares) < 0 or not shares[0] > 0 or not sum(shares) < np.inf:
        raise InputError(
            "shares",
            list(shares),
            "three numbers from 0 are required, for train, val and test",
            "0.8,0.1,0.1",
        )
    order = np.random.default_rng(seed).permutation(rows)
    cuts = np.rint(np.cumsum(shares) / sum(shares) * rows).astype(int)
    parts = np.split(order, cuts[:-1])
    return {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True) if len(part)}


def repeats(splits: Mapping[str, Indices], digests: Indices) -> Repeats:
    """Count rows whose digest, [n], occurs more than once."""
    within, across = {}, {}
    names = [name for name in SPLITS if name in splits]
    for place, name in enumerate(names):
        own = digests[splits[name]]
        within[name] = len(own) - len(np.unique(own))
        for other in names[:place]:
            count = int(np.isin(own, digests[splits[other]]).sum())
            across[f"{name} in {other}"] = count
    return Repeats(within, across)


def without_repeats(splits: Mapping[str, Indices], digests: Indices) -> dict[str, Indices]:
    """Every scene once: its first row, in the order train, val, test."""
    kept: dict[str, Indices] = {}
    seen = np.empty(0, np.int64)
    for name in (name for name in SPLITS if name in splits):
        rows = splits[name]
        _, first = np.unique(digests[rows], return_index=True)
        rows = rows[np.sort(first)]
        rows = rows[~np.isin(digests[rows], seen)]
        seen = np.concatenate([seen, digests[rows]])
        if len(rows):
            kept[name] = rows
    return kept


def distinct(digests: Indices) -> Indices:
    """Ids of rows, [n]: the digest of a first occurrence, and for each further one a digest of its own."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    occurrence = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    ids = digests.copy()
    again = order[occurrence > 0]
    if len(again):
        ids[again] = identities(digests[again], occurrence[occurrence > 0])
    return ids
