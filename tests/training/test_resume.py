import dataclasses
import shutil

import pytest
import torch
from torch import nn

from ristune.errors import InputError
from ristune.training import checkpoint, resume
from ristune.training.curriculum import Stage
from ristune.training.record import CLOCKS, Status
from ristune.training.rng import seed_process
from ristune.training.watcher import Nobody
from tests.toy import ToyTask
from tests.training.conftest import MemoryBatches, samples


class Noisy(ToyTask):
    """Draws from every generator a task may draw from, in training and in validation."""

    def __init__(self):
        super().__init__(width=8, scale=1.0)
        self.network.layers.append(nn.BatchNorm1d(1))

    def prepare(self, batch):
        import random

        import numpy as np

        noise = 0.01 * (torch.randn(()) + random.gauss(0, 1) + np.random.normal())
        return {**batch, "x": batch["x"] + noise}


class Shuffled(MemoryBatches):
    """Another order in each epoch."""

    def epoch(self, epoch, start=0):
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(epoch))
        for first in range(start * self.batch_size, self.rows, self.batch_size):
            yield {k: v[order[first : first + self.batch_size]] for k, v in self.tensors.items()}


class After(Nobody):
    """Pauses after so many windows."""

    def __init__(self, windows):
        self.left = windows

    def pause(self):
        self.left -= 1
        return self.left == 0


def made(make_trainer, **changes):
    torch.manual_seed(0)
    task = Noisy()
    stages = []
    train = samples(72)
    if "holed" in changes:
        train["x"][changes.pop("holed"), 0] = float("nan")
        train["spare"] = torch.full((72,), float("inf"))
    if changes.pop("stages", False):
        other = Noisy()
        other.scale, other.network = 0.5, task.network
        stages = [Stage(2, other, Shuffled(samples(40, 3), 8))]
    arguments = {"epochs": 4, "max_skips": 99, "schedule": "plateau", "plateau_patience": 0, **changes}
    trainer = make_trainer(
        task, Shuffled(train, 16), MemoryBatches(samples(40, 1), 16), stages=stages, **arguments
    )
    seed_process(7)
    return trainer


def comparable(records):
    """Records without clocks, NaN equal to itself, floats to the last bit."""
    return [repr({k: v for k, v in dataclasses.asdict(r).items() if k not in CLOCKS}) for r in records]


VARIANTS = {
    "plain": {},
    "accumulated": {"accumulate": 2},
    "ema": {"average": "ema"},
    "swa": {"average": "swa", "swa_start": 0.25},
    "fp16": {"precision": "fp16", "loss_scale": 2.0**40},
    "curriculum": {"stages": True},
    "sampled checks": {"check_inputs": 3, "holed": 70},
    "last skipped": {"average": "ema", "holed": 70},
    "swa, last skipped": {"average": "swa", "swa_start": 0.25, "holed": 70},
    "all": {"stages": True, "accumulate": 2, "average": "ema", "precision": "bf16"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("windows", [1, 4, 5, 7, 11])
def test_a_resumed_training_gives_the_records_of_one_never_stopped(make_trainer, tmp_path, variant, windows):
    changes = VARIANTS[variant]
    whole = made(make_trainer, **changes)
    wanted = list(whole.fit())
    first = made(make_trainer, **changes)
    records = list(first.fit(After(windows)))
    if first.interrupted:
        resume.keep(tmp_path, first, {"note": "x"})
        second = made(make_trainer, **changes)
        # A process that resumes has drawn other numbers.
        seed_process(99)
        saved = resume.newest(tmp_path, print)
        assert saved.state["note"] == "x"
        resume.restore(saved, second)
        records += list(second.fit())
        assert records[-1].status is Status.COMPLETE
        for a, b in zip(
            whole.network.state_dict().values(), second.network.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b)
    assert comparable(records) == comparable(wanted)


def test_the_variants_are_stopped_in_mid_epoch(make_trainer):
    for changes in VARIANTS.values():
        trainer = made(make_trainer, **changes)
        list(trainer.fit(After(4)))
        assert trainer.interrupted and trainer.progress.done > 0


def test_a_training_stopped_many_times_gives_the_same_records(make_trainer, tmp_path):
    wanted = list(made(make_trainer).fit())
    records, trainer = [], made(make_trainer)
    while True:
        records += list(trainer.fit(After(3)))
        if not trainer.interrupted:
            break
        resume.keep(tmp_path, trainer, {})
        trainer = made(make_trainer)
        seed_process(99)
        resume.restore(resume.newest(tmp_path, print), trainer)
    assert comparable(records) == comparable(wanted)
    assert len(list((tmp_path / resume.FOLDER).iterdir())) == resume.KEPT


def two_states(make_trainer, tmp_path):
    trainer = made(make_trainer)
    for windows in (2, 2):
        list(trainer.fit(After(windows)))
        resume.keep(tmp_path, trainer, {})
    return sorted((tmp_path / resume.FOLDER).iterdir())


def test_a_state_cut_off_at_any_byte_is_passed_over_for_the_one_before(make_trainer, tmp_path):
    old, new = two_states(make_trainer, tmp_path)
    done = checkpoint.load(old).state["training"]["progress"]["done"]
    for file in sorted(new.iterdir()):
        whole = file.read_bytes()
        for length in [*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1]:
            file.write_bytes(whole[:length])
            said = []
            assert resume.newest(tmp_path, said.append).state["training"]["progress"]["done"] == done
            assert "passed over" in said[0] and "it must be whole" in said[0]
        file.write_bytes(whole)
    assert resume.newest(tmp_path, print).state["training"]["progress"]["done"] > done


def test_a_state_whose_writing_was_cut_off_is_not_seen(make_trainer, tmp_path):
    old, new = two_states(make_trainer, tmp_path)
    shutil.copytree(new, new.with_name(".999999-000000000.new"))
    assert resume.newest(tmp_path, print).directory == new


def test_no_whole_state_is_an_error(make_trainer, tmp_path):
    with pytest.raises(InputError, match="--resume: got .*whole state in resume/"):
        resume.newest(tmp_path, print)
    for state in two_states(make_trainer, tmp_path):
        (state / checkpoint.STATE).unlink()
    with pytest.raises(InputError, match="--resume: got .*whole state in resume/"):
        resume.newest(tmp_path, print)


def test_after_a_damaged_state_two_whole_ones_are_kept_again(make_trainer, tmp_path):
    old, new = two_states(make_trainer, tmp_path)
    (new / checkpoint.STATE).write_text("")
    trainer = made(make_trainer)
    resume.restore(resume.newest(tmp_path, print), trainer)
    assert [path.name for path in new.parent.iterdir()] == [old.name]
    for _ in range(3):
        list(trainer.fit(After(1)))
        resume.keep(tmp_path, trainer, {})
    for path in new.parent.iterdir():
        checkpoint.load(path)
    assert len(list(new.parent.iterdir())) == resume.KEPT


def test_the_time_of_an_epoch_holds_what_was_before_a_pause(make_trainer):
    trainer = made(make_trainer, epochs=1)
    list(trainer.fit(After(3)))
    trainer._totals.wall += 100
    (record,) = trainer.fit()
    assert record.seconds > 100


def test_a_training_goes_on_in_its_own_precision(make_trainer, tmp_path):
    trainer = made(make_trainer, precision="bf16")
    list(trainer.fit(After(3)))
    resume.keep(tmp_path, trainer, {})
    with pytest.raises(InputError, match="training.precision: got 'fp32'; this training ran in bf16"):
        resume.restore(resume.newest(tmp_path, print), made(make_trainer))
