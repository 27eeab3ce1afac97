import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ristune.data.order import Order, cut

KNOWN = [[2, 9, 6, 4, 1, 5, 7, 0, 8, 3], [11, 10]]


def order(groups=(50,), window=16, key=("a", 0, 0), shuffle=True, keep=None):
    return Order(key, tuple(groups), window, shuffle, keep)


def visited(of):
    parts = [of.rows(window) for window in range(len(of.windows))]
    return np.concatenate([np.empty(0, np.int64), *parts])


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 14), st.integers(0, 5), st.booleans()
)
def test_every_sample_is_visited_once_window_by_window(groups, window, epoch, shuffle):
    of = order(groups, window, ("a", 1, epoch), shuffle)
    rows = visited(of)
    assert rows.dtype == np.int64
    assert len(of) == len(rows) == sum(groups)
    np.testing.assert_array_equal(np.sort(rows), np.arange(sum(groups)))
    if not shuffle:
        np.testing.assert_array_equal(rows, np.arange(sum(groups)))
    for number, chosen in enumerate(of.windows):
        assert 1 <= len(chosen) <= window
        inside = np.concatenate([np.arange(of.starts[g], of.starts[g + 1]) for g in chosen])
        part = rows[of.bounds[number] : of.bounds[number + 1]]
        np.testing.assert_array_equal(np.sort(part), np.sort(inside))


@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 14))
def test_a_filter_leaves_samples_out_and_reads_no_group_for_nothing(data, groups, window):
    size = sum(groups)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    of = order(groups, window, keep=keep)
    np.testing.assert_array_equal(np.sort(visited(of)), np.flatnonzero(keep))
    assert len(of) == keep.sum()
    assert all(keep[of.starts[g] : of.starts[g + 1]].any() for chosen in of.windows for g in chosen)


def test_the_order_is_the_one_it_has_always_been():
    of = order((5, 5, 2), 2, ("0" * 64, 0, 0))
    assert [of.rows(window).tolist() for window in range(2)] == KNOWN


def test_the_order_depends_on_dataset_seed_epoch_and_window():
    keys = [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1), ("a", 1, 1), ("a", 11, 0), ("a", 1, 10)]
    orders = {tuple(visited(order(key=key))) for key in keys}
    assert len(orders) == len(keys)
    assert tuple(visited(order((10,) * 5, 2))) != tuple(visited(order((10,) * 5, 3)))


def test_row_groups_make_no_difference_within_one_window():
    assert len({tuple(np.sort(visited(order(groups)))) for groups in [(50,), (20, 30), (10,) * 5]}) == 1


def test_the_algorithm_version_is_part_of_the_order(monkeypatch):
    before = visited(order())
    monkeypatch.setattr("ristune.data.order.ALGORITHM", 99)
    assert not np.array_equal(before, visited(order()))


def test_global_generators_neither_matter_nor_move():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = visited(order())
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    np.random.seed(2), torch.manual_seed(2)
    np.testing.assert_array_equal(first, visited(order()))


def test_another_process_gets_the_same_order():
    code = "from ristune.data.order import Order; print(Order(('a', 3, 4), (20,), 1, True).rows(0).tolist())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(visited(order((20,), 1, ("a", 3, 4))).tolist())


@pytest.mark.parametrize("groups", [(8,), (2, 2, 2, 2)])
def test_every_sample_is_as_likely_at_every_place(groups):
    rows, epochs = 8, 4000
    counts = np.zeros((rows, rows))
    for epoch in range(epochs):
        counts[np.arange(rows), visited(order(groups, 2, ("a", 0, epoch)))] += 1
    expected = epochs / rows
    # Six standard deviations of a binomial count.
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected * (1 - 1 / rows))


def test_a_prefix_cuts_the_last_group_short():
    assert cut((5, 5, 5), 7) == (5, 2)
    assert cut((5, 5), 10) == (5, 5)
    assert cut((5, 5), 5) == (5,)
