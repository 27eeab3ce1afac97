"""The host must not wait for the device within an epoch, but for one deferred flag a window.

On the CPU nothing waits; what would wait on a GPU are the same calls of a tensor's value by the host.
"""

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples

# What `.item()`, `bool(tensor)` and a comparison in an `if` come down to, and indexing by a mask.
WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.equal", "aten.masked_select")


class Waits(TorchDispatchMode):
    """Counts the calls that make a host wait."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if str(func).startswith(WAITS):
            self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


def waits(trainer, epoch=1):
    """Calls in the windows of one epoch, by its number."""
    counted = {}
    real = trainer._loop.run

    def run(stage, totals, watcher):
        with Waits() as seen:
            result = real(stage, totals, watcher)
        counted[trainer.progress.epoch] = seen.calls
        return result

    trainer._loop.run = run
    list(trainer.fit())
    return counted[epoch]


VARIANTS = [
    {},
    {"diagnostics": False},
    {"precision": "bf16"},
    {"precision": "fp16", "loss_scale": 1024.0},
    {"average": "ema"},
    {"average": "swa"},
    {"accumulate": 2},
    {"schedule": "plateau"},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("epoch", [1, 2])
def test_the_host_reads_no_value_within_an_epoch(make_trainer, changes, epoch):
    found = waits(make_trainer(epochs=2, **changes), epoch)
    # torch's own averaging reads its count, on the CPU, at the first update: once in a training.
    first = changes.get("average") == "ema" and epoch == 1
    assert len(found) <= 2 if first else found == []


def test_a_value_that_is_read_is_seen(make_trainer):
    class Reading(ToyTask):
        def loss(self, output, batch):
            terms = super().loss(output, batch)
            terms["squared"].item()
            return terms

    trainer = make_trainer(Reading(width=8, scale=1.0), MemoryBatches(samples(72), 16), epochs=1)
    assert waits(trainer) == ["aten._local_scalar_dense.default"] * 5
