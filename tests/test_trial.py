from types import SimpleNamespace

import pytest
import torch

from ristune import trial as trial_module
from ristune.config import compose
from ristune.errors import InputError
from ristune.training import checkpoint, dump, resume
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


STAGES = (
    "training.curriculum=[{from: 2, set: {data.filter: {target: [0, null]}, task.scale: 100}}, {from: 3}]"
)


def test_a_curriculum_filters_samples_and_changes_loss_weights(toy_dataset):
    trial = prepare(composed(toy_dataset, "training.epochs=3", "optimizer.lr=1e-30", STAGES), print)
    records = list(trial.run())
    seen = [0, *(record.batches for record in records)]
    batches = [after - before for before, after in zip(seen, seen[1:], strict=False)]
    (target,) = trial.dataset.split("train", ["target"]).values()
    kept = int((target >= 0).sum())
    assert 0 < kept < 128 and batches == [2, -(-kept // 64), 2]
    assert records[0].train["loss"] == pytest.approx(records[2].train["loss"], rel=1e-5)
    assert records[1].train["loss"] > 10 * records[0].train["loss"]


def test_a_curriculum_may_not_change_the_network_nor_set_what_is_not_there(toy_dataset):
    for stage, message in [
        (
            "{task.width: 5}",
            "training.curriculum: got {'task.width': 5}; a stage must leave the network as it",
        ),
        # The same shapes, another behaviour.
        (
            "{task.explode: true}",
            "training.curriculum: got {'task.explode': True}; a stage must leave",
        ),
        ("{task.widht: 5}", "override: got 'task.widht'"),
        ("{data.filter: {nothing: [0, 1]}}", "data.filter.nothing: got 'nothing'; only a scalar column"),
    ]:
        config = composed(toy_dataset, f"training.curriculum=[{{from: 1, set: {stage}}}]")
        with pytest.raises(InputError) as error:
            prepare(config, print)
        assert message in str(error.value)


def test_the_first_fault_is_written_down_with_the_configuration(toy_dataset, tmp_path):
    config = composed(toy_dataset, "task.explode=true", "training.max_skips=2")
    (record,) = prepare(config, print).run(tmp_path)
    saved = checkpoint.load(tmp_path / dump.FOLDER)
    assert saved.state["config"] == config.resolved() and saved.state["failure"]["cause"] == record.cause
    batches, _ = dump.read_window(saved)
    assert set(batches[0]) == {"x", "target", "sample_id"} and len(batches[0]["x"]) == 64


@pytest.mark.parametrize("average", ["none", "ema", "swa"])
def test_the_averaged_weights_that_were_validated_are_the_ones_kept(toy_dataset, tmp_path, average):
    config = composed(toy_dataset, f"training.average={average}", "training.swa_start=0", "optimizer.lr=0.01")
    *_, last = prepare(config, print).run(tmp_path)
    assert last.improved
    fresh = prepare(composed(toy_dataset), print)
    checkpoint.load(tmp_path / "best").load_into(fresh.task.network)
    assert fresh.trainer.validate() == last.val


def test_a_trial_that_is_asked_to_stop_keeps_the_window_it_has_just_trained(toy_dataset, tmp_path):
    config = composed(toy_dataset, "training.batch_size=16", "training.epochs=3")
    asked = iter([False] * 11 + [True] * 9)
    trial = prepare(config, print)
    records = list(trial.run(tmp_path, resumable=True, stopping=lambda: next(asked)))
    assert len(records) == 1 and trial.trainer.interrupted
    progress = resume.newest(tmp_path, print).state["training"]["progress"]
    assert (progress["epoch"], progress["done"], progress["batches"]) == (2, 4, 12)


def test_keeping_states_takes_a_small_share_of_short_epochs(toy_dataset, tmp_path, monkeypatch):
    clock, kept = [0.0], []

    def keep(directory, trainer, origin, before):
        clock[0] += 1.0
        kept.append(trainer.progress.epoch)

    monkeypatch.setattr(trial_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(resume, "keep", keep)
    trial = prepare(composed(toy_dataset, "training.epochs=9"), print)
    for _ in trial.run(tmp_path, resumable=True):
        clock[0] += 5.0
    # One that takes a second is worth it once in twenty: after the first, every fourth of five seconds.
    assert kept == [2, 6]
