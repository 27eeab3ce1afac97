import pytest

from ristune.errors import InputError
from ristune.training.curriculum import Stage, parse_curriculum, stage_at
from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples


def staged(scale, network):
    task = ToyTask(width=8, scale=scale)
    task.network = network
    return task


def test_each_epoch_trains_the_samples_and_the_loss_of_its_stage(make_trainer):
    task = ToyTask(width=8, scale=1.0)
    few = MemoryBatches(samples(32), 16)
    stages = [Stage(2, staged(1.0, task.network), few), Stage(3, staged(1000.0, task.network), few)]
    trainer = make_trainer(task, stages=stages, epochs=4, lr=1e-30)
    assert trainer.total_batches == 5 + 2 + 2 + 2
    records = list(trainer.fit())
    assert [r.batches for r in records] == [5, 7, 9, 11]
    losses = [r.train["loss"] for r in records]
    # Weights stand still: the loss is that of the samples, and a thousand times that.
    assert losses[2] == pytest.approx(1000 * losses[1], rel=1e-5) and losses[0] != losses[1]
    # Validation knows no stages.
    assert len({r.val["mse"] for r in records}) == 1


def test_the_schedule_ends_with_the_training_whatever_the_stages_hold(make_trainer):
    task = ToyTask(width=8, scale=1.0)
    stages = [Stage(2, task, MemoryBatches(samples(32), 16))]
    *_, last = make_trainer(task, stages=stages, epochs=3, lr=1e-2).fit()
    assert last.steps == 9 and last.lr == pytest.approx(1e-4, rel=1e-6)


def test_a_stage_holds_until_the_next():
    stages = [Stage(first, None, None) for first in (0, 2, 5)]
    assert [stage_at(stages, epoch).first for epoch in range(1, 7)] == [0, 2, 2, 2, 5, 5]


def test_stages_are_parsed_in_order():
    stages = [{"from": 1, "set": {"data.filter": {"a": [0, 1]}}}, {"from": 3}]
    assert parse_curriculum(stages, 4) == [(1, {"data.filter": {"a": [0, 1]}}), (3, {})]
    assert parse_curriculum([], 4) == []


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["x"], r"training.curriculum\[0\]: got 'x'; it must be {from: EPOCH"),
        ([{"set": {}}], r"training.curriculum\[0\]: got {'set': {}}; it must be {from"),
        ([{"from": 1, "sett": {}}], "it must be {from"),
        ([{"from": 0}], r"curriculum\[0\].from: got 0; a stage's first epoch must lie in 1..4"),
        ([{"from": 2}, {"from": 2}], r"curriculum\[1\].from: got 2; a stage's first epoch must lie in 3..4"),
        ([{"from": 5}], "a stage's first epoch must lie in 1..4"),
        ([{"from": 1, "set": 3}], r"curriculum\[0\].set: got 3; it must be {PATH: VALUE}"),
        ([{"from": 1, "set": {"optimizer.lr": 1}}], "got 'optimizer.lr'; a stage may set data.filter"),
    ],
)
def test_a_stage_that_is_malformed_is_refused(stages, message):
    with pytest.raises(InputError, match=message):
        parse_curriculum(stages, 4)
