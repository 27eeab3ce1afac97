"""What a user sets to choose the data of a training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """The dataset, and how much of it is used.

    Attributes:
        uri: the directory of the dataset: a plain path, `file://`, `s3://` or `gs://`.
        train_limit: use only the first so many training samples; all of them where it is not given.
        val_limit: the same for validation samples.
    """

    uri: str
    train_limit: int | None
    val_limit: int | None
