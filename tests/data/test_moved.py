"""Batches on their way to a GPU, with a copy engine that is as late as it may be."""

import contextlib
import ctypes
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from ristune.data import prefetch
from ristune.data.gather import Gatherer
from ristune.data.sources import HostSource, ResidentWindows
from tests.data.streaming import stream, written


class Engine:
    """Copies nothing before somebody waits for it."""

    def __init__(self):
        self.waiting = []

    def from_numpy(self, array):
        def to(device, non_blocking=False):
            target = torch.empty(array.shape, dtype=torch.uint8)
            self.waiting.append((target, array.ctypes.data, array.nbytes))
            return target

        return SimpleNamespace(to=to)

    def synchronize(self):
        for target, source, size in self.waiting:
            ctypes.memmove(target.data_ptr(), source, size)
        self.waiting.clear()


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_an_epoch_left_early_does_not_take_its_samples_from_the_next_one(tmp_path, monkeypatch, ahead):
    dataset, engine = written(tmp_path), Engine()
    batches = stream(dataset, batch_size=8)
    expected = next(batches.epoch(0))["sample_id"]
    gatherer = Gatherer(dataset.layout, batches._columns, 8)
    begin = partial(ResidentWindows, dataset.resident("train", batches.rows))
    source = HostSource(begin, gatherer, torch.device("cpu"))
    source._device = SimpleNamespace(type="cuda")
    event = SimpleNamespace(record=lambda stream: None, query=lambda: False)
    cuda = SimpleNamespace(stream=lambda stream: contextlib.nullcontext(), Event=lambda: event)
    monkeypatch.setattr(prefetch, "torch", SimpleNamespace(from_numpy=engine.from_numpy, cuda=cuda))
    monkeypatch.setattr(prefetch, "_copies", lambda device: engine)
    monkeypatch.setattr(prefetch, "_received", lambda batch, copied: batch)
    there = []
    monkeypatch.setattr(gatherer, "columns_there", lambda samples: there.append(samples) or {})
    next(source.batches(batches.order(0), 8, 0, ahead))
    next(source.batches(batches.order(1), 8, 0, ahead))
    engine.synchronize()
    assert torch.equal(gatherer.columns(there[0].numpy())["sample_id"], expected)
