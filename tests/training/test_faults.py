"""What a training does with windows that are not finite."""

import math

import pytest
import torch
from safetensors.torch import load_file

from ristune.errors import InputError
from ristune.training import checkpoint, dump
from ristune.training.record import Status
from ristune.training.watcher import Nobody
from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples
from tests.training.test_trainer import PoisonedTask


class Told(Nobody):
    """Keeps what it is told, and writes it down as a trial does: at once."""

    def __init__(self, folder=None):
        self.failures, self.folder = [], folder

    def failed(self, failure):
        self.failures.append(failure)
        if self.folder:
            dump.write(self.folder, failure, {"note": "x"})


def test_too_large_a_share_of_an_epoch_ends_a_trial(make_trainer):
    # Windows 5, 7 and 9 of the second epoch's five: never two in a row.
    task = PoisonedTask({5, 7, 9})
    records = list(make_trainer(task, max_skip_share=0.5, epochs=4).fit())
    assert [r.status for r in records] == [Status.RUNNING, Status.DIVERGED]
    assert "more than training.max_skip_share=0.5 of an epoch's steps were skipped" in records[-1].reason
    assert records[-1].objective == records[0].objective
    records = list(make_trainer(PoisonedTask({5, 7}), max_skip_share=0.5, epochs=4).fit())
    assert records[-1].status is Status.COMPLETE


def test_every_window_is_a_step_taken_or_skipped_also_where_a_trial_diverges(make_trainer):
    for accumulate in (1, 2):
        task = PoisonedTask(range(3, 99))
        *_, last = make_trainer(task, max_skips=3, accumulate=accumulate).fit()
        assert last.status is Status.DIVERGED and last.skipped == 3
        assert last.windows == last.steps + last.skipped
    assert last.train["loss"] != last.train["loss"]


def test_a_column_that_is_not_finite_is_named(make_trainer):
    tensors = samples(72)
    tensors["x"][20, 1] = math.nan
    (record,) = make_trainer(train=MemoryBatches(tensors, 16), epochs=1).fit()
    assert record.skipped == 1 and record.inputs == {"x": 1}
    assert record.cause.startswith("column 'x' holds NaN or infinity in 1 of 16 samples, loss term 'squared'")


def test_a_column_that_is_not_finite_and_unused_is_told_too(make_trainer):
    tensors = {**samples(72), "spare": torch.full((72,), math.inf)}
    (record,) = make_trainer(train=MemoryBatches(tensors, 16), epochs=1).fit()
    assert record.skipped == 0 and record.inputs == {"spare": 5}


def test_later_epochs_look_at_sampled_windows(make_trainer):
    tensors = {**samples(72), "spare": torch.full((72,), math.inf)}
    records = list(make_trainer(train=MemoryBatches(tensors, 16), epochs=2, check_inputs=2).fit())
    assert [r.inputs for r in records] == [{"spare": 5}, {"spare": 3}]
    records = list(make_trainer(train=MemoryBatches(tensors, 16), epochs=2, check_inputs=0).fit())
    assert [r.inputs for r in records] == [{"spare": 5}, {}]


def test_the_first_fault_is_told_with_all_that_reproduces_it(make_trainer, tmp_path):
    trainer, told = make_trainer(PoisonedTask({7, 9}), epochs=2), Told(tmp_path)
    before = {}
    real = trainer._loop._step.begin

    def spy():
        before[trainer.task.seen + 1] = {k: v.clone() for k, v in trainer.task.network.state_dict().items()}
        real()

    trainer._loop._step.begin = spy
    list(trainer.fit(told))
    (failure,) = told.failures
    assert (failure.epoch, failure.window, failure.precision, failure.scale) == (2, 8, "fp32", 1.0)
    assert failure.cause == "loss term 'squared' is nan"
    assert torch.equal(failure.batches[0]["x"], samples(72)["x"][32:48])
    folder = tmp_path / dump.FOLDER
    # The window's weights: those with which it was differentiated.
    saved = checkpoint.load(folder)
    weights = saved.tensors(checkpoint.WEIGHTS)
    assert all(torch.equal(weights[k], v) for k, v in before[7].items())
    batches, random = dump.read_window(saved)
    assert torch.equal(batches[0]["target"], failure.batches[0]["target"])
    assert torch.equal(random.cpu, failure.random.cpu) and random.python == failure.random.python
    assert saved.state["failure"]["cause"] == failure.cause and saved.state["note"] == "x"
    assert set(load_file(folder / dump.WINDOW)) == {"0:x", "0:target"}


def test_a_scaler_that_finds_its_scale_is_no_fault(make_trainer):
    told = Told()
    records = list(make_trainer(precision="fp16", loss_scale=2.0**24, max_skips=2, epochs=8).fit(told))
    assert records[-1].status is Status.COMPLETE and not told.failures
    assert records[-1].skipped > 2 and records[-1].steps > 0
    assert "at scale" in records[0].cause


def test_a_gradient_that_overflows_at_any_scale_ends_a_trial(make_trainer):
    class Infinite(ToyTask):
        def loss(self, output, batch):
            return {"squared": super().loss(output, batch)["squared"] + (output * 0).square().sum().sqrt()}

    told = Told()
    *_, last = make_trainer(
        Infinite(width=8, scale=1.0), precision="fp16", loss_scale=4.0, max_skips=3, epochs=9
    ).fit(told)
    # Two windows calibrate from 4 to 1; the next three are faults.
    assert last.status is Status.DIVERGED and last.skipped == 5 and len(told.failures) == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_every_precision_learns(make_trainer, precision):
    records = list(make_trainer(precision=precision, epochs=20).fit())
    assert records[-1].status is Status.COMPLETE
    assert records[-1].objective < 0.5 * records[0].objective


def test_statistics_of_batchnorm_survive_a_batch_that_is_not_finite(make_trainer):
    class Normed(ToyTask):
        def __init__(self):
            super().__init__(width=8, scale=1.0)
            self.network.layers.insert(1, torch.nn.BatchNorm1d(8))

    tensors = samples(72)
    tensors["x"][20, 1] = math.nan
    records = list(make_trainer(Normed(), train=MemoryBatches(tensors, 16), epochs=2).fit())
    assert [r.status for r in records] == [Status.RUNNING, Status.COMPLETE]
    assert all(math.isfinite(r.val["mse"]) and r.skipped for r in records)


def test_an_exception_of_a_loss_term_is_not_swallowed(make_trainer):
    class Broken(ToyTask):
        def loss(self, output, batch):
            terms = super().loss(output, batch)
            return {**terms, "broken": output[:, 5].mean()}

    with pytest.raises(IndexError, match="too many indices"):
        list(make_trainer(Broken(width=8, scale=1.0)).fit())


def test_the_objective_does_not_move_with_the_weight_of_the_loss(make_trainer):
    records = [next(make_trainer(scaled(scale), lr=1e-30, epochs=1).fit()) for scale in (1.0, 0.001)]
    assert records[0].train["loss"] == pytest.approx(1000 * records[1].train["loss"], rel=1e-5)
    assert records[0].objective == records[1].objective


def scaled(scale):
    torch.manual_seed(0)
    return ToyTask(width=8, scale=scale)


def test_the_loss_runs_outside_autocast_in_full_precision(make_trainer):
    seen = set()

    class Spy(ToyTask):
        def loss(self, output, batch):
            product = batch["x"] @ batch["x"].T
            seen.add((output.dtype, product.dtype, torch.is_autocast_enabled("cpu")))
            return super().loss(output, batch)

    list(make_trainer(Spy(width=8, scale=1.0), precision="bf16", epochs=1).fit())
    assert seen == {(torch.float32, torch.float32, False)}


def test_samples_that_are_not_finite_do_not_drive_the_scale_of_fp16_to_nothing(make_trainer):
    tensors = samples(72)
    tensors["x"][20, 1] = math.nan
    train = MemoryBatches(tensors, 16)
    trainer = make_trainer(train=train, precision="fp16", loss_scale=1024.0, epochs=30)
    records = list(trainer.fit())
    assert records[-1].skipped == 30 and trainer._scaler.get_scale() == 1024.0
    assert records[-1].objective < 0.5 * records[0].objective


def test_a_norm_that_overflows_is_a_fault_though_each_gradient_is_finite(make_trainer):
    class Huge(ToyTask):
        def loss(self, output, batch):
            # Backward alone is scaled: the scaler finds every gradient finite.
            hidden = self.network.layers[2].weight
            hidden.register_hook(lambda gradient: gradient * 0 + 1e20)
            return super().loss(output, batch)

    task = Huge(width=8, scale=1.0)
    *_, last = make_trainer(task, precision="fp16", loss_scale=2.0, max_skips=3, epochs=9).fit()
    assert last.status is Status.DIVERGED and last.skipped == 3


def test_a_task_that_assigns_into_its_batch_is_written_down_as_stored(make_trainer, tmp_path):
    class Assigns(ToyTask):
        def prepare(self, batch):
            batch["x"] = batch["x"] * math.nan
            return batch

    told = Told(tmp_path)
    *_, last = make_trainer(Assigns(width=8, scale=1.0), max_skips=2).fit(told)
    assert torch.equal(told.failures[0].batches[0]["x"], samples(72)["x"][:16])
    assert "column" not in last.cause


def test_a_buffer_that_is_not_in_the_state_is_not_written_down(make_trainer, tmp_path):
    task = PoisonedTask({0})
    task.network.register_buffer("grid", torch.ones(3), persistent=False)
    list(make_trainer(task, epochs=1).fit(Told(tmp_path)))
    checkpoint.load(tmp_path / dump.FOLDER).load_into(task.network)


def test_a_metric_that_is_averaged_in_some_batch_is_refused(make_trainer):
    class Sometimes(ToyTask):
        def metrics(self, output, batch):
            values = super().metrics(output, batch)["mse"]
            return {"mse": values if len(values) == 16 else values.mean()}

    with pytest.raises(InputError, match=r"task.metrics: 'mse': got \(\); it must .*\[B\] = \(8,\)"):
        list(make_trainer(Sometimes(width=8, scale=1.0)).fit())


def test_a_metric_of_some_batches_only_is_refused(make_trainer):
    class Sometimes(ToyTask):
        def metrics(self, output, batch):
            values = super().metrics(output, batch)["mse"]
            return {"mse": values, **({"more": values} if len(values) == 16 else {})}

    with pytest.raises(InputError, match="task.metrics: got 'mse'; every batch must have the metrics of the"):
        list(make_trainer(Sometimes(width=8, scale=1.0)).fit())


def test_a_term_of_some_batches_only_is_averaged_over_these(make_trainer):
    class Sometimes(ToyTask):
        def loss(self, output, batch):
            terms = super().loss(output, batch)
            return {**terms, **({"one": 0 * output.sum() + 1} if len(output) == 8 else {})}

    (record,) = make_trainer(Sometimes(width=8, scale=1.0), epochs=1).fit()
    assert record.train["one"] == 1.0


def test_a_network_that_is_no_longer_the_trained_one_is_refused(make_trainer):
    task = ToyTask(width=8, scale=1.0)
    trainer = make_trainer(task)
    task.network = ToyTask(width=8, scale=1.0).network
    with pytest.raises(InputError, match="task.loss: got 'no gradient'; some trainable parameter"):
        list(trainer.fit())


def test_a_prepared_value_that_is_no_tensor_is_refused(make_trainer):
    class Odd(ToyTask):
        def prepare(self, batch):
            return {**batch, "count": 3}

    with pytest.raises(InputError, match="task.prepare: 'count': got 'int'; a batch holds tensors only"):
        list(make_trainer(Odd(width=8, scale=1.0)).fit())
