import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from ristune.data.order import epoch_order

KNOWN = [7, 5, 2, 1, 9, 11, 4, 8, 10, 0, 6, 3]


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 17, 1000])
@pytest.mark.parametrize("epoch", [0, 1, 50])
def test_an_order_is_a_permutation(rows, epoch):
    order = epoch_order("a", 1, epoch, rows)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))


def test_the_order_is_the_one_it_has_always_been():
    assert epoch_order("0" * 64, seed=0, epoch=0, rows=12).tolist() == KNOWN


def test_the_order_depends_on_dataset_seed_and_epoch():
    keys = [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1), ("a", 1, 1), ("a", 11, 0), ("a", 1, 10)]
    assert len({tuple(epoch_order(*key, 50)) for key in keys}) == len(keys)


def test_the_algorithm_version_is_part_of_the_order(monkeypatch):
    before = epoch_order("a", 0, 0, 50)
    monkeypatch.setattr("ristune.data.order.ALGORITHM", 2)
    assert not np.array_equal(before, epoch_order("a", 0, 0, 50))


def test_global_generators_neither_matter_nor_move():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = epoch_order("a", 0, 0, 50)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    np.random.seed(2), torch.manual_seed(2)
    np.testing.assert_array_equal(first, epoch_order("a", 0, 0, 50))


def test_another_process_gets_the_same_order():
    code = "from ristune.data.order import epoch_order; print(epoch_order('a', 3, 4, 20).tolist())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(epoch_order("a", 3, 4, 20).tolist())


@pytest.mark.parametrize("rows", [1, 10, 99])
def test_the_first_samples_are_visited_in_the_order_they_have_among_all(rows):
    full = epoch_order("a", 0, 0, 100)
    np.testing.assert_array_equal(epoch_order("a", 0, 0, rows), full[full < rows])


def test_every_sample_is_as_likely_at_every_place():
    rows, epochs = 8, 4000
    counts = np.zeros((rows, rows))
    for epoch in range(epochs):
        counts[np.arange(rows), epoch_order("a", 0, epoch, rows)] += 1
    expected = epochs / rows
    # Six standard deviations of a binomial count.
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected * (1 - 1 / rows))
