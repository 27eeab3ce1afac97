"""The order of samples in an epoch: a pure function of what is passed in."""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

# Goes up with any change below, so that an order is never silently another one.
ALGORITHM = 1


def epoch_order(dataset_id: str, seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the first `rows` samples.

    Every sample has a random key of its own and samples are visited by rising key, so the order of the
    first N samples is that of more samples with the others left out. Neither the global generators of
    numpy and torch nor threads, batch size or device have any part in it.

    Args:
        dataset_id: the identity of the dataset.
        seed: the seed of the training.
        epoch: the epoch, from 0.
        rows: how many samples there are.

    Returns:
        A permutation of 0 ... rows - 1, [rows], int64.
    """
    text = json.dumps([ALGORITHM, dataset_id, seed, epoch])
    key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u8")
    # The raw words of Philox are fixed for all releases of numpy; `Generator.permutation` may change.
    words = np.random.Philox(key=key.astype(np.uint64)).random_raw(rows)
    return np.argsort(words, kind="stable").astype(np.int64)
