import pytest
import torch

from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.task.network.parameters()])


def test_windows_of_small_batches_train_as_large_batches_do(make_trainer):
    """72 samples: 4 windows of 18 in both, in batches of 18, and of 6 by threes."""
    whole = make_trainer(train=MemoryBatches(samples(72), 18), epochs=3)
    parts = make_trainer(train=MemoryBatches(samples(72), 6), accumulate=3, epochs=3)
    one, other = list(whole.fit())[-1], list(parts.fit())[-1]
    assert (one.batches, one.windows, one.steps) == (12, 12, 12)
    assert (other.batches, other.windows, other.steps) == (36, 12, 12)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-5)
    assert other.train["loss"] == pytest.approx(one.train["loss"], rel=1e-4)


def test_a_last_window_of_fewer_and_smaller_batches_counts_each_sample_once(make_trainer):
    """20 samples in batches of 8, 8, 4: windows of 16 and of 4. As batches of 16 and 4 they are the same."""
    whole = make_trainer(train=MemoryBatches(samples(20), 16), epochs=2)
    parts = make_trainer(train=MemoryBatches(samples(20), 8), accumulate=2, epochs=2)
    for trainer in (whole, parts):
        assert list(trainer.fit())[-1].windows == 4
    assert torch.allclose(weights(whole), weights(parts), atol=1e-6)


def test_batches_of_other_sizes_in_one_window_are_weighted_by_their_samples(make_trainer):
    """20 samples in one window: batches of 8, 8 and 4 give the gradient of all 20, not of three means."""
    whole = make_trainer(train=MemoryBatches(samples(20), 20), epochs=1)
    parts = make_trainer(train=MemoryBatches(samples(20), 8), accumulate=3, epochs=1)
    norms = [list(trainer.fit())[-1].grad_norm for trainer in (whole, parts)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_the_schedule_counts_windows(make_trainer):
    trainer = make_trainer(accumulate=2, epochs=4, lr=1e-2)
    *_, last = trainer.fit()
    # 5 batches an epoch: 3 windows.
    assert last.steps == 12 and last.lr == pytest.approx(1e-4, rel=1e-6)


def test_one_bad_batch_costs_its_window_and_no_more(make_trainer):
    class Poisoned(ToyTask):
        seen = 0

        def loss(self, output, batch):
            self.seen += 1
            terms = super().loss(output, batch)
            return {"squared": terms["squared"] / (0 if self.seen == 2 else 1)}

    (record,) = make_trainer(Poisoned(width=8, scale=1.0), accumulate=2, epochs=1).fit()
    assert (record.batches, record.windows, record.steps, record.skipped) == (5, 3, 2, 1)
    assert record.cause == "loss term 'squared' is inf"
