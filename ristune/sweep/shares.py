"""What a trial is given more of at each rung: epochs, or a share of the training samples."""

from collections.abc import Mapping

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep_config import SweepConfig

FRACTION = "data.fraction"
# Digits of a share that count: a tenth, times three, is 0.3 and not a little more.
DIGITS = 12


def shares(config: SweepConfig) -> tuple[float, ...]:
    """The shares of the training samples that a trial trains on, one after the other, ascending.

    Args:
        config: of the sweep.

    Returns:
        `first_share * reduction**k` below 1, then 1; only that where the resource is epochs.
    """
    found, share = [], config.first_share
    while config.resource == "data" and round(share, DIGITS) < 1:
        found.append(round(share, DIGITS))
        share *= config.reduction
    return (*found, 1.0)


def total_epochs(config: SweepConfig, epochs: int) -> int:
    """The epochs of a trial that is never stopped, counted on through all shares.

    Args:
        config: of the sweep.
        epochs: of one training.
    """
    return epochs * len(shares(config))


def share_at(config: SweepConfig, epochs: int, epoch: int) -> float:
    """The share of the training samples that an epoch is of.

    Args:
        config: of the sweep.
        epochs: of one training.
        epoch: counted on through all shares, from 1.
    """
    every = shares(config)
    return every[(epoch - 1) // epochs] if len(every) > 1 else 1.0


def rung_levels(config: SweepConfig, epochs: int) -> list[int]:
    """The epochs after which a trial may be stopped, ascending; none at the very end.

    Args:
        config: of the sweep.
        epochs: of one training.
    """
    if config.resource == "data":
        return [epochs * number for number in range(1, len(shares(config)))]
    levels, level = [], config.grace
    while level < epochs:
        levels.append(level)
        level *= config.reduction
    return levels


def share_values(config: SweepConfig, number: int) -> Mapping[str, float]:
    """The value, by configuration path, that makes a training one of a share; none where epochs are given.

    Args:
        config: of the sweep.
        number: of the share, from 0.
    """
    return {FRACTION: shares(config)[number]} if config.resource == "data" else {}


def check_resource(config: Config) -> None:
    """Refuse a share of the data that is both the resource and a value.

    Args:
        config: of the sweep.

    Raises:
        InputError: if `data.fraction` is searched or set.
    """
    if config.sweep.resource != "data":
        return
    rule = "it is what a trial is given more of at each rung (sweep.resource=data)"
    if FRACTION in config.space:
        raise InputError("space", FRACTION, rule, "take it out of the space, or set sweep.resource=epochs")
    if config.data.fraction != 1:
        raise InputError(
            FRACTION, config.data.fraction, rule, "leave it at 1; data.train_limit bounds the samples"
        )
