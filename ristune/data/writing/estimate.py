"""What a dataset will take, told from a few samples before it is written."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ristune.data.shards import encode, row_bytes
from ristune.data.writing.source import DRAWN_ROWS, Part, Simulated, as_columns
from ristune.errors import InputError
from ristune.storage.access import Storage

# Samples of the first trial, and how many times as many the next has.
FIRST_ROWS, GROWTH = 8, 4
# Seconds after which a trial says enough.
ENOUGH = 0.25


@dataclass(frozen=True)
class Estimate:
    """What the shards that are still to be written will take.

    Attributes:
        samples: how many samples they hold.
        shards: how many they are.
        sample_bytes: size of one sample in a file, bytes.
        size: of all of them, bytes.
        sample_seconds: drawing and encoding a sample on one core.
    """

    samples: int
    shards: int
    sample_bytes: float
    size: int
    sample_seconds: float

    def seconds(self, workers: int) -> float:
        """How long it will take with so many processes of one core each."""
        return self.samples * self.sample_seconds / workers


def estimate(source: Simulated, parts: Sequence[Part]) -> Estimate:
    """Draw and encode a few samples, and keep nothing of them.

    Args:
        source: where the samples come from.
        parts: the shards that are to be written, at least one.

    Raises:
        InputError: the source gives what it does not declare, or a value is not finite.
    """
    columns = as_columns(source.columns, f"generator {source.name!r}")
    rows = FIRST_ROWS
    # What libraries set up in their first call is not timed.
    encode(parts[0].path, columns, source.arrays(replace(parts[0], rows=rows)))
    while True:
        started = time.perf_counter()
        data, _ = encode(parts[0].path, columns, source.arrays(replace(parts[0], rows=rows)))
        seconds = time.perf_counter() - started
        if seconds > ENOUGH or rows >= DRAWN_ROWS:
            break
        rows *= GROWTH
    samples = sum(each.rows for each in parts)
    around = len(data) - rows * row_bytes(columns)
    size = samples * row_bytes(columns) + len(parts) * around
    return Estimate(samples, len(parts), size / samples, size, seconds / rows)


def check_space(storage: Storage, size: int) -> None:
    """Refuse what would fill a local disk.

    Args:
        storage: where it is to be written.
        size: what is to be written, bytes.

    Raises:
        InputError: so much is not free.
    """
    free = storage.free_bytes()
    if free is not None and free < size:
        rule = f"the dataset takes {size / 1e9:.3g} GB, which must be free on the disk"
        remedy = "free some space, choose another place, or write fewer samples"
        raise InputError(f"space at {storage.uri}", f"{free / 1e9:.3g} GB", rule, remedy)
