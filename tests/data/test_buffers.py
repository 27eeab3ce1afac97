import gc

import numpy as np
import pytest
import torch

from ristune.data import buffers
from ristune.data.buffers import LARGE, BufferPool


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """The buffers that were made anew; they are kept, so that no other one has the same address."""
    found, original = [], buffers._plain
    monkeypatch.setattr(buffers, "_plain", lambda size: (found.append(original(size)), found[-1])[1])
    return found


@pytest.mark.parametrize("size", [100, LARGE, 3 * LARGE + 7])
def test_memory_comes_back_when_nothing_refers_to_it(size, made):
    pool = BufferPool(size, kept=2)
    first = pool.take()
    assert first.shape == (size,)
    address = first.ctypes.data
    assert pool.take().ctypes.data != address
    del first
    gc.collect()
    again = pool.take(), pool.take()
    assert address in {buffer.ctypes.data for buffer in again}
    assert len(made) == 2


MADE = {
    "slice": lambda lent: lent[10:20],
    "slice of a slice": lambda lent: lent[10:90][5:][3:],
    "reshaped": lambda lent: lent[:80].reshape(8, 10),
    "another dtype": lambda lent: lent[:80].view("<f4").reshape(2, 10)[:, 3],
    "a field": lambda lent: lent[:80].view([("a", "<i8"), ("b", "<f4", (3,))])["b"],
    "ndarray": lambda lent: np.ndarray((3, 2), "<f4", lent, 8, (8, 4)),
    "memoryview": lambda lent: memoryview(lent.data)[5:10],
    "tensor": lambda lent: torch.from_numpy(lent),
    "tensor of a view": lambda lent: torch.from_numpy(lent[:80].reshape(8, 10)).view(torch.float16)[3:, 2],
    "numpy of a tensor": lambda lent: torch.from_numpy(lent).numpy()[3:].reshape(-1)[2:],
}


@pytest.mark.parametrize("kind", MADE)
def test_what_is_made_of_it_keeps_it(kind):
    pool = BufferPool(100, kept=3)
    lent = pool.take()
    address = lent.ctypes.data
    made = MADE[kind](lent)
    del lent
    gc.collect()
    other = pool.take()
    assert other.ctypes.data != address
    del made
    gc.collect()
    assert pool.take().ctypes.data == address
