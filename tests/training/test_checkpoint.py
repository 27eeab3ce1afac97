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
    with pytest.raises(InputError, match="its weights must fit the network"):
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
    with pytest.raises(InputError, match=r"missing: state.json, weights.safetensors, contents.json"):
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


def test_a_checkpoint_cut_off_at_any_byte_is_refused(tmp_path):
    network = ToyTask(width=2, scale=1.0).network
    checkpoint.save(tmp_path / "best", network, {"epoch": 1})
    for name in (checkpoint.WEIGHTS, checkpoint.STATE, checkpoint.CONTENTS):
        path = tmp_path / "best" / name
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match="it must be whole, and"):
                checkpoint.load(tmp_path / "best")
        path.write_bytes(whole)
    assert checkpoint.load(tmp_path / "best").state == {"epoch": 1}


def test_a_checkpoint_with_one_flipped_bit_is_refused(tmp_path):
    checkpoint.save(tmp_path / "best", ToyTask(width=2, scale=1.0).network, {"epoch": 1})
    path = tmp_path / "best" / checkpoint.WEIGHTS
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(InputError, match="weights.safetensors was altered"):
        checkpoint.load(tmp_path / "best")


def test_weights_that_are_tied_are_saved_and_come_back_tied(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(3, 3)
            self.second = torch.nn.Linear(3, 3)
            self.second.weight = self.first.weight

    tied, other = Tied(), Tied()
    checkpoint.save(tmp_path / "best", tied, {})
    checkpoint.load(tmp_path / "best").load_into(other)
    assert torch.equal(other.second.weight, tied.first.weight)
    assert other.second.weight is other.first.weight


def test_a_network_with_state_that_is_no_tensor_is_refused(tmp_path):
    class Odd(torch.nn.Module):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(InputError, match="task.network: '_extra_state': got 'dict'; the state of a network"):
        checkpoint.save(tmp_path / "best", Odd(), {})
