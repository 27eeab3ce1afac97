import pytest

from ristune.config import compose
from ristune.doctor import bench as of
from ristune.doctor import overfitting
from ristune.doctor.bench import Bench, shrink
from ristune.doctor.outcome import Once, Unavailable, Verdict
from ristune.errors import InputError
from ristune.trial import prepare
from tests.conftest import TOY


def configured(toy_dataset, **values):
    config = compose([*(t for t in TOY if "=" in t), f"data.uri={toy_dataset}"], ["tests/configs"])
    return config.with_values({path.replace("__", "."): value for path, value in values.items()})


def test_the_small_configuration_has_few_samples_and_two_epochs(toy_dataset):
    small = shrink(configured(toy_dataset, data__fraction=0.5))
    assert (small.data.train_limit, small.data.val_limit, small.data.fraction) == (64, 64, 1.0)
    assert (small.training.batch_size, small.training.epochs) == (16, 2)


def test_no_batch_of_one_is_left(toy_dataset):
    small = shrink(configured(toy_dataset, data__train_limit=97))
    assert (small.data.train_limit, small.training.batch_size) == (96, 24)


def test_limits_and_batches_smaller_than_the_doctors_are_kept(toy_dataset):
    small = shrink(configured(toy_dataset, data__train_limit=40, data__val_limit=8, training__batch_size=4))
    assert (small.data.train_limit, small.data.val_limit, small.training.batch_size) == (40, 8, 4)


def test_a_filter_is_kept_and_leaves_enough_samples(toy_dataset, monkeypatch):
    monkeypatch.setattr(of, "TRAIN", 24)
    small = shrink(configured(toy_dataset, data__filter={"target": [0.0, None]}))
    assert small.data.train_limit == 96 and small.data.filter == {"target": [0.0, None]}
    assert prepare(small, print).train.rows >= 24


def test_a_filter_that_leaves_nothing_of_the_first_samples_takes_all(toy_dataset, monkeypatch):
    monkeypatch.setattr(of, "TRAIN", 1)
    target = prepare(configured(toy_dataset), print).dataset.split("train")["target"]
    best = float(target.max())
    assert float(target[0]) < best
    small = shrink(configured(toy_dataset, data__filter={"target": [best, None]}))
    assert small.data.train_limit >= 4


def narrow_stage(toy_dataset):
    """A configuration with a stage that leaves one sample, which is none of the first, and that one."""
    target = prepare(configured(toy_dataset), print).dataset.split("train")["target"]
    stage = {"from": 2, "set": {"data.filter": {"target": [float(target.max()), None]}}}
    return configured(toy_dataset, training__curriculum=[stage]), int(target.argmax())


def test_enough_samples_are_taken_for_each_stages_filter(toy_dataset, monkeypatch):
    monkeypatch.setattr(of, "TRAIN", 4)
    monkeypatch.setattr(of, "BATCH", 1)
    config, row = narrow_stage(toy_dataset)
    small = shrink(config)
    assert small.data.train_limit > row >= 4
    assert [record.epoch for record in prepare(small, print).run()] == [1, 2]


def test_a_few_samples_are_fitted_without_the_stages(toy_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(overfitting, "ROWS", 8)
    config, row = narrow_stage(toy_dataset)
    assert row >= 8
    assert overfitting.overfits(Bench(config, tmp_path, print)).verdict is Verdict.PASS


def test_a_curriculum_runs_through_its_stages_an_epoch_each(toy_dataset):
    stages = [{"from": 3, "set": {"task.scale": 2.0}}, {"from": 9}]
    small = shrink(configured(toy_dataset, training__epochs=12, training__curriculum=stages))
    assert [stage["from"] for stage in small.training.curriculum] == [2, 3] and small.training.epochs == 3
    assert [record.epoch for record in prepare(small, print).run()] == [1, 2, 3]


def test_a_curriculum_that_is_none_is_refused(toy_dataset):
    with pytest.raises(InputError, match=r"training.curriculum\[0\]: got .*it must be"):
        shrink(configured(toy_dataset, training__curriculum=[{"set": {}}]))


def test_a_fresh_trial_has_the_values_that_are_given(toy_dataset, tmp_path):
    bench = Bench(configured(toy_dataset), tmp_path, print)
    trial = bench.fresh({"task.width": 4})
    assert trial.config.task["width"] == 4 and trial.config.training.epochs == 2


def test_what_failed_once_is_not_tried_again():
    calls = []

    def make():
        calls.append(1)
        raise ValueError("planted")

    once = Once("the trial", make)
    with pytest.raises(ValueError, match="planted"):
        once()
    with pytest.raises(Unavailable, match="it needs the trial, which failed: see above"):
        once()
    assert len(calls) == 1


def test_what_was_made_is_made_once():
    once = Once("a list", list)
    assert once() is once()
