import json
import os

import pytest
import torch

from ristune.errors import InputError
from ristune.training import checkpoint
from tests.toy import ToyTask


def test_what_is_validated_is_what_is_saved_and_what_is_loaded(make_trainer, tmp_path):
    trainer = make_trainer(epochs=4)
    for record in trainer.fit():
        if record.improved:
            checkpoint.save(tmp_path / "best", trainer.task.network, {"val": record.val})
    saved = checkpoint.load(tmp_path / "best")
    fresh = make_trainer(ToyTask(width=8, scale=1.0))
    saved.load_into(fresh.task.network)
    assert fresh.validate() == saved.state["val"]


def test_weights_of_another_network_are_refused(make_trainer, tmp_path):
    checkpoint.save(tmp_path / "best", ToyTask(width=8, scale=1.0).network, {})
    with pytest.raises(InputError, match="its weights must be whole and fit the network"):
        checkpoint.load(tmp_path / "best").load_into(ToyTask(width=9, scale=1.0).network)


def test_weights_under_other_names_are_refused_not_skipped(make_trainer, tmp_path):
    """The earlier system loaded with strict=False: a changed prefix made it a silent no-op."""
    network = ToyTask(width=8, scale=1.0).network
    wrapped = torch.nn.Module()
    wrapped.module = network
    checkpoint.save(tmp_path / "best", wrapped, {})
    with pytest.raises(
        InputError, match="Missing key.*layers.0.weight.*Unexpected key.*module.layers.0.weight"
    ):
        checkpoint.load(tmp_path / "best").load_into(network)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing: state.json, weights.safetensors"):
        checkpoint.load(tmp_path)


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path):
    network = ToyTask(width=8, scale=1.0).network
    checkpoint.save(tmp_path / "best", network, {"epoch": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.save(tmp_path / "best", network, {"epoch": float("nan")})
    assert checkpoint.load(tmp_path / "best").state == {"epoch": 1}


def test_a_crash_between_the_two_renames_leaves_the_old_checkpoint_to_be_found(tmp_path, monkeypatch):
    network = ToyTask(width=8, scale=1.0).network
    checkpoint.save(tmp_path / "best", network, {"epoch": 1})
    real = os.rename

    def crash(source, target):
        if source.name.endswith(".new"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "best", network, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "best").state == {"epoch": 1}
    checkpoint.save(tmp_path / "best", network, {"epoch": 3})
    assert checkpoint.load(tmp_path / "best").state == {"epoch": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_a_save_replaces_the_old_checkpoint_and_leaves_nothing_else(tmp_path):
    network = ToyTask(width=8, scale=1.0).network
    for epoch in (1, 2):
        checkpoint.save(tmp_path / "best", network, {"epoch": epoch})
    assert [p.name for p in tmp_path.iterdir()] == ["best"]
    assert json.loads((tmp_path / "best" / "state.json").read_text()) == {"epoch": 2}
