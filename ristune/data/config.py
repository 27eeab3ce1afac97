"""What a user sets to choose the data of a training, and how it is read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ristune.errors import InputError, require

MODES = ("auto", "cached", "gpu", "windowed")


@dataclass(frozen=True)
class DataConfig:
    """The dataset, how much of it is used, and how it is read.

    Attributes:
        uri: where the dataset is: a plain path, `file://`, `s3://` or `gs://`.
        train_limit: use only the first so many training samples; all of them where it is not given.
        val_limit: the same for validation samples.
        fraction: use only this share of the training samples, the first ones, in (0, 1].
        filter: by scalar column the lowest and highest value of training samples that are used; None is open.
        mode: one of `MODES`.
        window: row groups whose samples are mixed with each other; part of the order in every mode.
        prefetch: threads that make batches ahead; 0 makes each when it is asked for.
        gpu_share: the most of a GPU's free memory that `auto` fills with samples, in [0, 1].
        cache: the folder of decoded datasets on each node; by itself where it is not given.
        cache_memory_share: the most of a node's memory that decoded datasets take, in [0, 1].
        cache_disk_gb: the most that decoded datasets take on a node's disk, in GB of 10^9 bytes.
    """

    uri: str
    train_limit: int | None
    val_limit: int | None
    fraction: float
    filter: dict[str, Any]
    mode: str
    window: int
    prefetch: int
    gpu_share: float
    cache: str | None
    cache_memory_share: float
    cache_disk_gb: float

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        require(0 < self.fraction <= 1, "data.fraction", self.fraction, "in (0, 1]")
        require(self.mode in MODES, "data.mode", self.mode, f"one of {', '.join(MODES)}")
        require(self.window >= 1, "data.window", self.window, "at least 1")
        require(0 <= self.prefetch <= 64, "data.prefetch", self.prefetch, "0 to 64")
        require(0 <= self.gpu_share <= 1, "data.gpu_share", self.gpu_share, "in [0, 1]")
        share = self.cache_memory_share
        require(0 <= share <= 1, "data.cache_memory_share", share, "in [0, 1]")
        size = self.cache_disk_gb
        require(0 <= size < math.inf, "data.cache_disk_gb", size, "0 or more, and finite")
        for column, bounds in self.filter.items():
            check_bounds(f"data.filter.{column}", bounds)


Filter = Mapping[str, Sequence[float | None]]


def check_bounds(name: str, bounds: object) -> None:
    """Refuse what is not a lowest and a highest value.

    Raises:
        InputError: naming it.
    """
    pair = list(bounds) if isinstance(bounds, Sequence) and not isinstance(bounds, str) else []
    plain = [x for x in pair if isinstance(x, (int, float)) and not isinstance(x, bool)]
    numbers = [x for x in plain if not math.isnan(x)]
    sound = len(pair) == 2 and len(numbers) + pair.count(None) == 2
    if not sound or (len(numbers) == 2 and not numbers[0] <= numbers[1]):
        raise InputError(
            name, bounds, "it must be [lowest, highest]", "give two numbers, or null for an open end"
        )
