import pytest
import torch
from torch import nn

from ristune.training import checkpoint
from ristune.training.record import Status
from tests.digits import DigitsTask
from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples


def flat(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def images(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(rows, 1, 8, 8, generator=generator) * 3 + 1,
        "label": torch.randint(0, 10, (rows,), generator=generator),
    }


@pytest.mark.parametrize("average", ["none", "ema", "swa"])
def test_what_is_validated_is_what_is_saved_and_what_is_loaded(make_trainer, tmp_path, average):
    trainer = make_trainer(average=average, epochs=5)
    for record in trainer.fit():
        checkpoint.save(tmp_path / "best", trainer.network, {"val": record.val})
        fresh = make_trainer(ToyTask(width=8, scale=1.0))
        saved = checkpoint.load(tmp_path / "best")
        saved.load_into(fresh.task.network)
        assert fresh.validate() == saved.state["val"]
        raw = make_trainer(ToyTask(width=8, scale=1.0))
        raw.task.network.load_state_dict(trainer.task.network.state_dict())
        # SWA begins with epoch 3, and the mean of one is itself. Were they equal otherwise, the test would
        # not see which weights were validated.
        averaged = average == "ema" or (average == "swa" and record.epoch > 3)
        assert (raw.validate() != saved.state["val"]) is averaged


def test_ema_is_the_exponential_average_over_steps(make_trainer):
    trainer = make_trainer(average="ema", ema_decay=0.9, epochs=2)
    seen = []
    real = trainer._average.step

    def spy():
        seen.append(flat(trainer.task.network))
        real()

    trainer._average.step = spy
    list(trainer.fit())
    wanted = seen[0]
    for count, weights in enumerate(seen[1:], start=1):
        decay = min(0.9, (1 + count) / (10 + count))
        wanted = decay * wanted + (1 - decay) * weights
    assert len(seen) == 10
    assert torch.allclose(flat(trainer.network), wanted, atol=1e-6)
    assert not torch.allclose(flat(trainer.network), flat(trainer.task.network), atol=1e-4)


def test_swa_is_the_mean_over_the_late_epochs_and_none_before(make_trainer):
    trainer = make_trainer(average="swa", swa_start=0.5, epochs=6)
    ends = []
    for record in trainer.fit():
        ends.append(flat(trainer.task.network))
        if record.epoch <= 3:
            assert trainer.network is trainer.task.network
    assert torch.allclose(flat(trainer.network), torch.stack(ends[3:]).mean(0), atol=1e-6)


def test_with_swa_the_rate_is_held_from_its_start_on(make_trainer):
    rates = [r.lr for r in make_trainer(average="swa", swa_start=0.5, swa_lr=0.25, epochs=6, lr=1e-2).fit()]
    assert rates[0] > rates[1] > rates[2] == pytest.approx(2.5e-3)
    assert rates[3:] == pytest.approx([2.5e-3] * 3)


def test_swa_measures_the_statistics_of_batchnorm_anew(make_trainer):
    task = DigitsTask(width=4, dropout=0.0, batch_norm=True, label_smoothing=0.0)
    train = MemoryBatches(images(64), 16)
    trainer = make_trainer(
        task, train, MemoryBatches(images(32, 1), 16), objective="nll", average="swa", swa_start=0.5, epochs=4
    )
    list(trainer.fit())
    (norm, *_) = [m for m in trainer.network.modules() if isinstance(m, nn.BatchNorm2d)]
    seen = []
    handle = norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    trainer.network.eval()
    with torch.no_grad():
        for batch in train.epoch(0):
            trainer.network(batch)
    handle.remove()
    wanted = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(0)
    assert torch.allclose(norm.running_mean, wanted, atol=1e-5)
    (raw, *_) = [m for m in trainer.task.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not torch.allclose(raw.running_mean, wanted, atol=1e-3)


def test_an_average_does_not_move_with_a_skipped_step(make_trainer):
    class Broken(ToyTask):
        def loss(self, output, batch):
            return {"squared": super().loss(output, batch)["squared"] / 0}

    trainer = make_trainer(Broken(width=8, scale=1.0), average="ema", max_skips=99, epochs=1)
    list(trainer.fit())
    assert trainer.network is trainer.task.network


class Frozen(nn.BatchNorm1d):
    """Stays in eval mode."""

    def train(self, mode=True):
        return super().train(False)


class Normed(ToyTask):
    """A toy task with BatchNorm, frozen or not."""

    def __init__(self, frozen=False):
        super().__init__(width=8, scale=1.0)
        norm = Frozen(8) if frozen else nn.BatchNorm1d(8)
        if frozen:
            norm.running_var.fill_(4.0)
        self.network.layers.insert(1, norm)


def holed(row):
    tensors = samples(72)
    tensors["x"][row, 1] = float("nan")
    return MemoryBatches(tensors, 16)


@pytest.mark.parametrize("average", ["none", "ema", "swa"])
@pytest.mark.parametrize("row", [20, 70])
def test_a_batch_that_is_not_finite_poisons_no_average(make_trainer, average, row):
    """Also the last one of an epoch, which is differentiated before the step in front of it is averaged."""
    trainer = make_trainer(Normed(), train=holed(row), average=average, swa_start=0.0, epochs=3)
    records = list(trainer.fit())
    assert [r.status for r in records][-1] is Status.COMPLETE and records[-1].skipped == 3
    (norm,) = [m for m in trainer.network.modules() if isinstance(m, nn.BatchNorm1d)]
    assert torch.isfinite(norm.running_mean).all() and norm.running_var.max() < 10


def test_ema_is_validated_with_the_networks_own_statistics(make_trainer):
    trainer = make_trainer(Normed(), average="ema", epochs=2)
    list(trainer.fit())
    for mine, theirs in zip(trainer.network.buffers(), trainer.task.network.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_swa_leaves_a_frozen_batchnorm_alone(make_trainer):
    trainer = make_trainer(Normed(frozen=True), average="swa", swa_start=0.0, epochs=2)
    list(trainer.fit())
    (norm,) = [m for m in trainer.network.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norm.running_var.tolist() == [4.0] * 8
