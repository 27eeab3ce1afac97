"""Epochs of batches from one split."""

import math
from collections.abc import Generator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ristune.data.config import MODES, Filter, check_bounds
from ristune.data.dataset import Dataset
from ristune.data.device import DeviceSource, kept_on_device
from ristune.data.gather import Gatherer
from ristune.data.mapping import window_reader
from ristune.data.order import Order, cut
from ristune.data.sources import HostSource, ResidentWindows, Source
from ristune.data.windows import ReadWindows
from ristune.errors import InputError, require


class Stream:
    """Epochs of batches from one split; the same ones whatever the mode."""

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        batch_size: int,
        seed: int,
        shuffle: bool,
        device: torch.device | str,
        limit: int | None = None,
        columns: Sequence[str] | None = None,
        *,
        mode: str,
        window: int,
        prefetch: int,
        gpu_share: float,
        fraction: float = 1.0,
        where: Filter | None = None,
    ) -> None:
        """Open the split; unless it is windowed it is decoded now.

        Args:
            dataset: the dataset.
            split: `train`, `val` or `test`.
            batch_size: samples in a batch; the last batch of an epoch has what is left.
            seed: decides the order, together with the dataset's identity and the epoch.
            shuffle: whether an epoch has an order of its own, or that of the dataset.
            device: where batches go.
            limit: only the first so many samples.
            columns: the columns of a batch; all where they are not given.
            mode: see `DataConfig.mode`.
            window: row groups whose samples are mixed; part of the order in every mode.
            prefetch: threads that make batches ahead.
            gpu_share: see `DataConfig.gpu_share`.
            fraction: only this share of them, the first ones, at least one.
            where: only samples whose scalar columns lie in these bounds; see `narrowed`.

        Raises:
            InputError: an argument is refused, or as for `Dataset.split`.
        """
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "a batch has at least one sample", "raise it")
        every = [column.name for column in dataset.manifest.columns]
        require(0 < fraction <= 1, "data.fraction", fraction, "in (0, 1]")
        self._columns = every if columns is None else [dataset.column(name).name for name in columns]
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.device = torch.device(device)
        self._dataset = dataset
        self._split = split
        self._window = window
        self._prefetch = prefetch
        # Rounded first: 0.07 of 100 is 7, whatever the last bit of the product.
        self._samples = math.ceil(round(dataset.limited(split, limit) * fraction, 6)) or 1
        sizes = [shard.row_groups[number].rows for shard, number in dataset.groups(split)]
        self._groups = cut(sizes, self._samples)
        self.mode = self._chosen(mode, gpu_share)
        self._source = self._open()
        self._keep: NDArray[np.bool_] | None = None
        if where:
            self._keep = self._kept(where)
        self.rows = len(self.order(0))

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return math.ceil(self.rows / self.batch_size)

    def narrowed(self, where: Filter) -> "Stream":
        """The same stream with samples left out; nothing is read or copied again.

        Args:
            where: by scalar column the lowest and highest value, None for an open end; replaces the filter
                that this stream has.

        Raises:
            InputError: there is no such column, it is no scalar, or no sample is left.
        """
        other = Stream.__new__(Stream)
        vars(other).update(vars(self))
        other._keep = self._kept(where) if where else None
        other.rows = len(other.order(0))
        return other

    def order(self, n: int) -> Order:
        """The order of epoch `n`, from 0."""
        key = (self._dataset.dataset_id, self.seed, n)
        return Order(key, self._groups, self._window, self.shuffle, self._keep)

    def epoch(self, n: int, start: int = 0) -> Generator[dict[str, Tensor], None, None]:
        """The batches of epoch `n`, from 0: every sample once.

        Args:
            n: the epoch; the same number always gives the same batches.
            start: the first batch to give, to go on with an epoch; the ones before cost nothing.

        Yields:
            One tensor [B, *shape] for each column, of its dtype, on the stream's device; the caller's own.
            Those of `layout.WIDE` bytes a sample and more lie `stride(0)` apart, each sample contiguous:
            `reshape`, not `view`, joins their first axis with another.

        Raises:
            InputError: a row group cannot be read, or was altered.
        """
        if start < 0:
            raise InputError("start", start, "batches are counted from 0", "give 0 or more")
        yield from self._source.batches(self.order(n), self.batch_size, start, self._prefetch)

    def _chosen(self, mode: str, gpu_share: float) -> str:
        require(mode in MODES, "data.mode", mode, f"one of {', '.join(MODES)}")
        if mode == "gpu" and self.device.type == "cpu":
            rule = "samples can lie in the memory of a GPU only, and this trial runs on the CPU"
            raise InputError("data.mode", mode, rule, "set data.mode=auto, or training.device=cuda")
        if mode != "auto":
            return mode
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            free += kept_on_device(self._dataset, self._split, self.device)
            if self._samples * self._dataset.layout.width <= gpu_share * free:
                return "gpu"
        return "windowed" if self._dataset.cache is None else "cached"

    def _open(self) -> Source:
        if self.mode == "gpu":
            return DeviceSource(self._dataset, self._split, self._columns, self._samples, self.device)
        most = min(self.batch_size, self._samples)
        if self.mode == "windowed":
            reader = window_reader(self._dataset, self._split, self._columns, self._window)
            gatherer = Gatherer(reader.layout, self._columns, most)
            return HostSource(partial(ReadWindows, reader), gatherer, self.device)
        resident = self._dataset.resident(self._split, self._samples)
        gatherer = Gatherer(self._dataset.layout, self._columns, most)
        return HostSource(partial(ResidentWindows, resident), gatherer, self.device)

    def _kept(self, where: Filter) -> NDArray[np.bool_]:
        keep = np.ones(self._samples, np.bool_)
        for name, bounds in where.items():
            path = f"data.filter.{name}"
            check_bounds(path, bounds)
            scalars = [column.name for column in self._dataset.manifest.columns if not column.shape]
            if name not in scalars:
                rule = f"only a scalar column can be filtered by: {', '.join(scalars)}"
                raise InputError(path, name, rule, "give one of them")
            (tensor,) = self._dataset.split(self._split, [name], self._samples).values()
            # Floats of any width are compared as they are, the bounds not rounded to them.
            values = tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()
            low, high = bounds
            if low is not None:
                keep &= values >= low
            if high is not None:
                keep &= values <= high
        if not keep.any():
            rule = f"none of the {self._samples} samples of {self._split!r} lies in these bounds"
            raise InputError("data.filter", {k: list(v) for k, v in where.items()}, rule, "widen them")
        return keep
