import math

import pytest
import torch

from ristune.errors import InputError
from ristune.training.record import Status
from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples


class PoisonedTask(ToyTask):
    """A toy task whose loss, or one of whose gradients, is not finite in the windows that are named."""

    def __init__(self, windows, poison="loss"):
        super().__init__(width=8, scale=1.0)
        self.windows, self.poison, self.seen = set(windows), poison, -1

    def loss(self, output, batch):
        self.seen += 1
        terms = super().loss(output, batch)
        if self.seen not in self.windows:
            return terms
        if self.poison == "loss":
            return {"squared": terms["squared"] * math.nan}
        # sqrt at 0: the loss stays finite, the gradient does not.
        return {"squared": terms["squared"] + (output * 0).square().sum().sqrt()}


class BlindTask(ToyTask):
    """A toy task whose validation is not finite from the epoch that is named."""

    def __init__(self, from_epoch, val_batches):
        super().__init__(width=8, scale=1.0)
        self.calls, self.first = 0, 1 + (from_epoch - 1) * val_batches

    def metrics(self, output, batch):
        self.calls += 1
        values = super().metrics(output, batch)["mse"]
        return {"mse": values * math.nan if self.calls > self.first else values}


def weights(trainer):
    return [p.detach().clone() for p in trainer.task.network.parameters()]


def test_every_batch_is_a_step_taken_or_skipped(make_trainer):
    records = list(make_trainer(PoisonedTask({1, 7})).fit())
    assert [r.batches for r in records] == [5, 10, 15]
    assert all(r.batches == r.steps + r.skipped for r in records)
    assert [r.skipped for r in records] == [1, 2, 2]


def test_parameters_change_in_every_epoch(make_trainer):
    trainer = make_trainer()
    before = weights(trainer)
    for _ in trainer.fit():
        after = weights(trainer)
        assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        before = after


def test_parameters_change_with_every_window_not_once_an_epoch(make_trainer):
    seen = []

    class Spy(ToyTask):
        def loss(self, output, batch):
            seen.append(torch.cat([p.detach().flatten() for p in self.network.parameters()]))
            return super().loss(output, batch)

    (record,) = make_trainer(Spy(width=8, scale=1.0), epochs=1).fit()
    assert record.steps == len(seen) == 5
    assert all(not torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False))


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_skipped_window_moves_neither_weights_nor_moments_nor_the_schedule(make_trainer, poison):
    poisoned = list(make_trainer(PoisonedTask(range(5, 10), poison), max_skips=99).fit())
    trainer = make_trainer(PoisonedTask(range(5, 10), poison), max_skips=99)
    fit = trainer.fit()
    first = next(fit)
    before = weights(trainer)
    moments = [s["exp_avg"].clone() for s in trainer.optimizer.state.values()]
    second = next(fit)
    assert second.skipped == 5 and second.steps == first.steps
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))
    after = [s["exp_avg"] for s in trainer.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    assert second.lr == first.lr
    assert poisoned[-1].steps == 10


def test_the_schedule_moves_once_a_taken_step_and_ends_at_its_floor(make_trainer):
    records = list(make_trainer(lr=1e-2).fit())
    assert records[0].lr > records[1].lr > records[2].lr
    # The last of 15 steps leaves the schedule at its end: final_lr of lr.
    assert records[-1].lr == pytest.approx(1e-4, rel=1e-6)


def test_the_epoch_loss_is_the_mean_over_every_sample_of_every_batch(make_trainer):
    # With no learning rate to speak of, every batch sees the same weights.
    train = MemoryBatches(samples(72), 16)
    trainer = make_trainer(train=train, lr=1e-30, epochs=1)
    (record,) = trainer.fit()
    with torch.no_grad():
        output = trainer.task.network(train.tensors)
        expected = (output - train.tensors["target"]).square().mean().item()
    assert record.train["loss"] == pytest.approx(expected, rel=1e-5)
    assert record.train["squared"] == pytest.approx(expected, rel=1e-5)


def test_a_batch_that_was_skipped_is_seen_in_the_epoch_loss(make_trainer):
    records = list(make_trainer(PoisonedTask({2})).fit())
    assert math.isnan(records[0].train["loss"])
    assert math.isfinite(records[1].train["loss"])


def test_validation_and_training_run_the_same_code(make_trainer):
    # The same split on both sides, weights standing still: the same number.
    split = MemoryBatches(samples(64), 16)
    (record,) = make_trainer(train=split, val=split, lr=1e-30, epochs=1).fit()
    assert record.val["mse"] == pytest.approx(record.train["loss"], rel=1e-6)


def test_a_trial_that_never_validates_ends_diverged_at_the_ceiling(make_trainer):
    task = ToyTask(width=8, scale=1.0, explode=True)
    records = list(make_trainer(task, ceiling=123.0).fit())
    assert len(records) == 1
    record = records[0]
    assert record.status is Status.DIVERGED
    assert record.objective == 123.0 and record.value is None and record.best_epoch == 0
    assert record.batches == record.skipped == 5
    assert "5 steps in a row were skipped: loss term 'squared' is inf" in record.reason


def test_a_trial_that_diverges_later_keeps_its_best_objective(make_trainer):
    records = list(make_trainer(BlindTask(from_epoch=2, val_batches=3)).fit())
    assert [r.status for r in records] == [Status.RUNNING, Status.DIVERGED]
    assert records[1].objective == records[0].objective < 1e6
    assert records[1].best_epoch == 1 and not records[1].improved
    assert records[1].reason == "validation mse is nan"


def test_no_metric_may_be_not_finite_be_it_the_objective_or_not(make_trainer):
    class Half(ToyTask):
        def metrics(self, output, batch):
            values = super().metrics(output, batch)["mse"]
            return {"mse": values, "other": values * math.nan}

    (record,) = make_trainer(Half(width=8, scale=1.0)).fit()
    assert record.status is Status.DIVERGED and record.reason == "validation other is nan"


def test_a_metric_that_is_not_one_value_a_sample_is_refused_before_training(make_trainer):
    class Averaged(ToyTask):
        def metrics(self, output, batch):
            return {"mse": super().metrics(output, batch)["mse"].mean()}

    trainer = make_trainer(Averaged(width=8, scale=1.0))
    with pytest.raises(
        InputError, match=r"task.metrics: 'mse': got \(\); it must have the shape \[B\] = \(16,\)"
    ):
        next(trainer.fit())


def test_an_epoch_that_was_cut_short_counts_the_samples_it_saw(make_trainer):
    (record,) = make_trainer(ToyTask(width=8, scale=1.0, explode=True), max_skips=2).fit()
    assert record.samples_per_second * record.seconds == pytest.approx(32, rel=0.5)


def test_skips_that_are_not_in_a_row_do_not_end_a_trial(make_trainer):
    records = list(make_trainer(PoisonedTask({0, 2, 4, 6, 8, 10, 12}), max_skips=2).fit())
    assert records[-1].status is Status.COMPLETE and records[-1].skipped == 7


def test_the_last_record_is_complete_and_it_learned(make_trainer):
    records = list(make_trainer(epochs=20).fit())
    assert [r.status for r in records] == [Status.RUNNING] * 19 + [Status.COMPLETE]
    assert records[-1].objective < 0.5 * records[0].objective
    assert all(r.objective <= records[0].objective for r in records)


def test_an_objective_the_task_does_not_have_is_refused_before_training(make_trainer):
    trainer = make_trainer(objective="accuracy")
    with pytest.raises(InputError, match="training.objective: got 'accuracy'; it must be a metric.*: mse"):
        next(trainer.fit())
    assert trainer.progress.batches == 0


def test_a_flat_record_is_plain_json_values(make_trainer):
    record = next(make_trainer().fit())
    row = record.flat()
    assert row["train/loss"] == record.train["loss"] and row["val/mse"] == record.val["mse"]
    assert row["status"] == "running"
    assert all(isinstance(v, (int, float, str, type(None))) for v in row.values())
