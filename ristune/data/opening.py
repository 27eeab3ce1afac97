"""A dataset and its streams as the configuration asks for them."""

from collections.abc import Callable
from typing import Any

import torch

from ristune.data.cache import NodeCache
from ristune.data.config import DataConfig
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.places import GB, places
from ristune.data.stream import Stream


def open_configured(config: DataConfig, report: Callable[[str], None]) -> Dataset:
    """Open the dataset of a configuration, kept on this node unless it is read in windows.

    Args:
        config: which, and how it is read.
        report: told of long work, in a line each.

    Raises:
        InputError: there is no finished dataset, or its manifest is refused.
    """
    if config.mode == "windowed":
        return open_dataset(config.uri)
    cache = NodeCache(places(config, report), report)
    dataset = open_dataset(config.uri, cache)
    if config.mode == "auto" and not cache.fits(dataset.dataset_id, dataset.decoded_bytes):
        size = dataset.decoded_bytes / GB
        report(f"{dataset.uri}: {size:.1f} GB do not fit this node (data.cache_*), reading in windows")
        return open_dataset(config.uri)
    return dataset


def train_stream(
    config: DataConfig, dataset: Dataset, batch_size: int, seed: int, device: torch.device
) -> Stream:
    """The training split in shuffled order: the share and the samples that the configuration asks for.

    Raises:
        InputError: as `Stream`.
    """
    part = {"limit": config.train_limit, "fraction": config.fraction, "where": config.filter}
    return _stream(config, dataset, "train", batch_size, device, seed=seed, shuffle=True, **part)


def measured_stream(
    config: DataConfig,
    dataset: Dataset,
    split: str,
    batch_size: int,
    device: torch.device | str,
    limit: int | None = None,
) -> Stream:
    """A split that is measured on, whole or its first samples, in the order of the dataset.

    Raises:
        InputError: as `Stream`.
    """
    return _stream(config, dataset, split, batch_size, device, seed=0, shuffle=False, limit=limit)


def _stream(
    config: DataConfig,
    dataset: Dataset,
    split: str,
    batch_size: int,
    device: torch.device | str,
    **which: Any,
) -> Stream:
    return Stream(
        dataset,
        split,
        batch_size,
        device=device,
        mode=config.mode,
        window=config.window,
        prefetch=config.prefetch,
        gpu_share=config.gpu_share,
        **which,
    )
