"""Whether every row of a dataset has an id of its own, told while shards come in."""

import numpy as np
from numpy.typing import NDArray

from ristune.errors import InputError

Ids = NDArray[np.int64]


def check_unique(uri: str, split: str, path: str, ids: Ids) -> None:
    """Refuse a shard in which an id occurs twice.

    Args:
        uri: the dataset, as it is to be named in errors.
        split: the split of the shard.
        path: the shard.
        ids: sorted, [rows].

    Raises:
        InputError: an id occurs twice.
    """
    repeats = int(np.count_nonzero(ids[1:] == ids[:-1]))
    if repeats:
        raise _repeated(f"{uri}: split {split!r}", repeats, f"within {path}")


def _repeated(name: str, count: int, place: str) -> InputError:
    rule = f"{count} ids occur twice {place}; every row has an id of its own"
    remedy = "draw ids from the generator that is passed in, or from a wider range; delete what is there"
    return InputError(name, count, rule, remedy)


def _common(ids: Ids, known: Ids) -> int:
    """How many of the ids are among the known ones; both are sorted."""
    places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return int(np.count_nonzero(known[places] == ids))


class SeenIds:
    """The ids of the shards so far: 8 bytes a row, the one thing that grows with the dataset.

    Args:
        uri: the dataset, as it is to be named in errors.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        # Sorted runs, each at least twice as long as the next: a row is merged a logarithmic number of times.
        self._runs: dict[str, list[Ids]] = {}

    def add(self, split: str, ids: Ids) -> None:
        """Take in a shard.

        Args:
            split: the split it is of.
            ids: sorted, [rows], none twice.

        Raises:
            InputError: an id was there before.
        """
        for other, runs in self._runs.items():
            repeats = sum(_common(ids, run) for run in runs)
            if repeats:
                pair = f"in split {split!r} and in split {other!r}"
                place = f"within split {split!r}" if other == split else pair
                raise _repeated(self._uri, repeats, place)
        runs = self._runs.setdefault(split, [])
        runs.append(ids)
        while len(runs) > 1 and len(runs[-2]) < 2 * len(runs[-1]):
            last = runs.pop()
            # A stable sort merges runs that are sorted already in linear time.
            runs[-1] = np.sort(np.concatenate([runs[-1], last]), kind="stable")
