import pytest
import torch

from ristune.nearfield.checking import coherence
from tests.nearfield.conftest import Drawn, make_task, scene_sampler, simulator

LABELS = ("num_sources", "azimuth", "elevation", "range", "power", "phase")


def attached(model: str, rows: int, seed: int = 5):
    data = Drawn(simulator(scene_sampler(source_model=model)), rows=rows, seed=seed)
    task = make_task()
    task.attach(data)
    return task, data.batch


@pytest.fixture(scope="module", params=["iid", "static"])
def sound(request):
    return attached(request.param, 64)


@pytest.mark.parametrize("model", ["iid", "static"])
def test_a_sound_dataset_has_no_findings(model):
    task, batch = attached(model, 4096, seed=11)
    assert task.check_sample(batch) == []
    for first in range(0, 4096, 64):
        assert task.check_sample({name: values[first : first + 64] for name, values in batch.items()}) == []


def test_a_strong_signal_in_half_precision_has_no_findings():
    """What rounding H adds to y is above the noise at 80 dB, and no fault of the labels."""
    data = Drawn(simulator(snr_db=(70, 80)), rows=256)
    task = make_task()
    task.attach(data)
    assert task.check_sample(data.batch) == []


@pytest.mark.parametrize("changes", [{"channel_error_db": -15.0}, {"position_jitter": 0.01}])
def test_what_is_known_inexactly_on_purpose_is_no_finding(changes):
    data = Drawn(simulator(**changes), rows=256)
    task = make_task()
    task.attach(data)
    assert task.check_sample(data.batch) == []
    # The sources do leave more than noise: by a dataset that does not say so it is found.
    task.attach(Drawn(simulator()))
    assert "the labels do not explain y" in " ".join(task.check_sample(data.batch))


CORRUPTIONS = {
    "swapped angles": (
        lambda b: {"azimuth": b["elevation"], "elevation": b["azimuth"]},
        "the labels do not explain y",
    ),
    "wrong sign of azimuth": (lambda b: {"azimuth": -b["azimuth"]}, "the labels do not explain y"),
    "wrong range": (lambda b: {"range": b["range"] * 1.3}, "the labels do not explain y"),
    "shuffled labels": (lambda b: {n: b[n].roll(1, 0) for n in LABELS}, "the labels do not explain y"),
    "shuffled channels": (lambda b: {"h": b["h"].roll(1, 0)}, "the labels do not explain y"),
    "conjugated snapshots": (
        lambda b: {"y": b["y"] * torch.tensor([1.0, -1.0])},
        "the labels do not explain y",
    ),
    "too much noise_var": (
        lambda b: {"noise_var": b["noise_var"] * 1.15},
        "snr_db and noise_var contradict y",
    ),
    "too little noise_var": (
        lambda b: {"noise_var": b["noise_var"] * 0.85},
        "the labels do not explain y",
    ),
    "wrong snr": (lambda b: {"snr_db": b["snr_db"] + 1}, "snr_db and noise_var contradict y"),
    "shuffled snr": (lambda b: {"snr_db": b["snr_db"].roll(1, 0)}, "snr_db and noise_var contradict y"),
    "a source too many": (
        lambda b: {"num_sources": torch.full_like(b["num_sources"], 6)},
        "num_sources is not 1 to the number of slots: 64 of 64 rows",
    ),
    "a source without a range": (
        lambda b: {"range": b["range"].roll(1, 1)},
        "range is not above 0 for each of the num_sources",
    ),
    "padding": (lambda b: {"power": b["power"] + 0.1}, "slots beyond num_sources are not 0"),
    "power": (lambda b: {"power": b["power"] * 2}, "power is negative or does not sum to 1"),
    "degrees": (
        lambda b: {"azimuth": b["azimuth"].rad2deg()},
        "azimuth or elevation lies beyond a right angle",
    ),
    "no noise": (lambda b: {"noise_var": b["noise_var"] * 0}, "noise_var is not above 0"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_found(sound, name):
    task, batch = sound
    corrupt, message = CORRUPTIONS[name]
    assert message in " ".join(task.check_sample({**batch, **corrupt(batch)}))


def test_a_single_wrong_row_is_named(sound):
    task, batch = sound
    row = int(batch["snr_db"].argmax())
    azimuth = batch["azimuth"].clone()
    azimuth[row] *= -1
    (finding,) = task.check_sample({**batch, "azimuth": azimuth})
    assert f"1 of 64 rows, first row {row} (scene_id {int(batch['scene_id'][row])})" in finding


def test_coherent_sources_with_incoherent_labels_are_found():
    task, batch = attached("static", 64)
    task.source_model = "iid"
    (finding,) = task.check_sample({**batch, "phase": batch["phase"] * 0})
    assert "the sources are coherent but labelled incoherent" in finding


def test_coherence_is_one_for_constant_symbols_and_small_for_independent_ones():
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randn(200, 16, 3, dtype=torch.complex128, generator=generator)
    assert coherence(symbols).mean().item() == pytest.approx(1 / 16, rel=0.1)
    assert torch.allclose(coherence(symbols[:, :1].expand(-1, 16, -1)), torch.ones(200, dtype=torch.float64))
    symbols[..., 1:] = 0
    assert coherence(symbols).isnan().all()
