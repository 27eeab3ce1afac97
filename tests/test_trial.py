import torch

from ristune.config import compose
from ristune.training import checkpoint
from ristune.trial import finite, prepare
from tests.conftest import TOY


def composed(toy_dataset, *more):
    overrides = [text for text in TOY if "=" in text]
    return compose([*overrides, f"data.uri={toy_dataset}", "training.epochs=2", *more], ["tests/configs"])


def weights(trial):
    return [p.detach().clone() for p in trial.task.network.parameters()]


def test_weights_come_from_the_seed_alone_whatever_was_drawn_before(toy_dataset):
    first = weights(prepare(composed(toy_dataset), print))
    torch.manual_seed(12345)
    torch.rand(100)
    again = weights(prepare(composed(toy_dataset), print))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = weights(prepare(composed(toy_dataset, "seed=1"), print))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_trial_leaves_nothing_in_the_process_that_changes_the_next(toy_dataset):
    alone = [record.val for record in prepare(composed(toy_dataset), print).run()]
    for _ in prepare(composed(toy_dataset, "seed=9", "task.width=64", "training.threads=1"), print).run():
        pass
    assert [record.val for record in prepare(composed(toy_dataset), print).run()] == alone


def test_the_best_epochs_checkpoint_says_what_it_came_from(toy_dataset, tmp_path):
    config = composed(toy_dataset)
    trial = prepare(config, print)
    records = list(trial.run(tmp_path))
    best = min(records, key=lambda record: record.val["mse"])
    state = checkpoint.load(tmp_path / "best").state
    assert state["epoch"] == best.epoch and state["val"] == best.val
    assert state["config"] == config.resolved() and state["dataset_id"] == trial.dataset.dataset_id
    assert compose(state["overrides"], state["config_dirs"]).resolved() == state["config"]


def test_numbers_that_are_not_finite_become_null():
    nan = float("nan")
    assert finite({"a": nan, "b": 1.0, "c": "x", "d": 3}) == {"a": None, "b": 1.0, "c": "x", "d": 3}
