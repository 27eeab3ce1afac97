import math

import pytest
import torch
from torch import nn

from ristune.training.diagnostics import Spread
from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples


class HalfDead(ToyTask):
    """Half of its parameters are in no output; one of them is, times zero."""

    def __init__(self):
        super().__init__(width=8, scale=1.0)
        self.network.unused = nn.Linear(3, 3)
        self.network.nulled = nn.Parameter(torch.ones(1))

    def loss(self, output, batch):
        return {"squared": super().loss(output, batch)["squared"] + 0 * self.network.nulled.sum()}


class Constant(ToyTask):
    def prepare(self, batch):
        return {**batch, "x": batch["x"] * 0}


def test_parameters_without_a_gradient_are_listed(make_trainer):
    (record,) = make_trainer(HalfDead(), epochs=1).fit()
    found = record.diagnosis
    assert set(found.dead) == {"unused.weight", "unused.bias", "nulled"}
    assert found.coverage == {"layers": 1.0, "unused": 0.0, "nulled": 0.0}
    assert found.grad_norms["layers"] > 0 and found.grad_norms["unused"] == 0
    assert list(found.update_ratio) == ["layers"]


def test_a_sound_network_has_no_dead_parameter(make_trainer):
    records = list(make_trainer(epochs=3).fit())
    assert all(r.diagnosis.dead == () and r.diagnosis.coverage == {"layers": 1.0} for r in records)


def test_norms_by_group_make_up_the_global_norm(make_trainer):
    groups = {"a": {"match": ["layers.0.*"]}, "b": {"match": ["layers.2.*"]}}
    (record,) = make_trainer(train=MemoryBatches(samples(16), 16), groups=groups, epochs=1).fit()
    norms = record.diagnosis.grad_norms
    assert set(norms) == {"a", "b"}
    assert math.hypot(*norms.values()) == pytest.approx(record.grad_norm, rel=1e-5)


def test_the_update_ratio_is_the_last_step_over_the_weights(make_trainer):
    trainer = make_trainer(epochs=1, lr=1e-3, schedule="constant", warmup=0.0)
    (record,) = trainer.fit()
    weights = torch.cat([p.detach().flatten() for p in trainer.task.network.parameters()])
    # Adam moves each value by about the rate.
    assert record.diagnosis.update_ratio["layers"] == pytest.approx(
        1e-3 * math.sqrt(len(weights)) / weights.norm().item(), rel=0.5
    )


def test_the_share_of_clipped_steps_is_recorded(make_trainer):
    (record,) = make_trainer(epochs=1, clip_norm=1e-6).fit()
    assert record.clipped == 1.0 and record.grad_norm > 0.01
    (record,) = make_trainer(epochs=1, clip_norm=1e6).fit()
    assert record.clipped == 0.0


def test_a_constant_prediction_has_no_spread(make_trainer):
    (record,) = make_trainer(Constant(width=8, scale=1.0), epochs=1).fit()
    assert record.diagnosis.spread["output"] < 1e-12
    (record,) = make_trainer(epochs=1).fit()
    assert record.diagnosis.spread["output"] > 1e-2


def test_spread_is_the_variance_over_scenes_as_a_share_of_the_mean_square():
    torch.manual_seed(0)
    values = torch.randn(100, 3, dtype=torch.complex64) + 2
    spread = Spread()
    for part in values.split(30):
        spread.add({"a": part, "scalar": torch.ones(()), "other": torch.ones(7)}, len(part))
    real = torch.view_as_real(values).double()
    wanted = real.var(0, unbiased=False).sum() / real.square().mean(0).sum()
    assert spread.result() == {"a": pytest.approx(wanted.item())}


def test_without_diagnostics_a_record_has_none(make_trainer):
    (record,) = make_trainer(epochs=1, diagnostics=False).fit()
    assert not record.diagnosis.grad_norms and not record.diagnosis.spread
    assert record.grad_norm > 0


def test_skipped_windows_count_for_no_gradient(make_trainer):
    class Poisoned(ToyTask):
        seen = 0

        def loss(self, output, batch):
            self.seen += 1
            squared = super().loss(output, batch)["squared"]
            return {"squared": squared * math.nan if self.seen % 2 else squared}

    (record,) = make_trainer(Poisoned(width=8, scale=1.0), epochs=1, max_skips=99).fit()
    assert record.skipped == 3 and record.steps == 2
    assert record.grad_norm > 0 and record.diagnosis.grad_norms["layers"] > 0


def test_time_waiting_for_data_is_recorded(make_trainer):
    class Slow(MemoryBatches):
        def epoch(self, epoch, start=0):
            import time

            for batch in super().epoch(epoch, start):
                time.sleep(0.02)
                yield batch

    (record,) = make_trainer(train=Slow(samples(72), 16), epochs=1).fit()
    assert record.waiting >= 0.1
