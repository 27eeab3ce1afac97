"""Epochs of batches from one split."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ristune.data.dataset import Dataset
from ristune.data.order import epoch_order
from ristune.errors import InputError


class Stream:
    """Epochs of batches from one split, which is decoded into memory at once."""

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
    ) -> None:
        """Decode the split.

        Args:
            dataset: the dataset.
            split: `train`, `val` or `test`.
            batch_size: samples in a batch; the last batch of an epoch has what is left.
            seed: decides the order, together with the dataset's identity and the epoch.
            shuffle: whether an epoch has an order of its own, or that of the dataset.
            device: where batches go.
            limit: only the first so many samples.
            columns: the columns of a batch; all where they are not given.

        Raises:
            InputError: `batch_size` is below 1, or as for `Dataset.split`.
        """
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "a batch has at least one sample", "raise it")
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.device = torch.device(device)
        self._dataset_id = dataset.dataset_id
        self._tensors = dataset.split(split, columns, limit)
        self.rows = dataset.rows(split) if limit is None else limit

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return math.ceil(self.rows / self.batch_size)

    def epoch(self, n: int) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `n`, from 0: every sample once.

        Args:
            n: the epoch; the same number always gives the same batches.

        Yields:
            One tensor [B, *shape] for each column, of its dtype, on the stream's device; the caller's own.
        """
        if self.shuffle:
            order = torch.from_numpy(epoch_order(self._dataset_id, self.seed, n, self.rows))
        else:
            order = torch.arange(self.rows)
        for first in range(0, self.rows, self.batch_size):
            index = order[first : first + self.batch_size]
            # A gather even where rows lie side by side: a slice would let a task write into the cache.
            batch = {name: torch.index_select(tensor, 0, index) for name, tensor in self._tensors.items()}
            yield {name: tensor.to(self.device) for name, tensor in batch.items()}
