from dataclasses import replace

import numpy as np
import pytest
import torch

from ristune.config import build, compose
from ristune.data.dataset import open_dataset
from ristune.data.writing.source import Simulated, shard_generator
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.nearfield.codes import code_values
from ristune.nearfield.scene import covariance_factor, source_steering
from tests.nearfield.conftest import CODES, GEOMETRY, Drawn, make_task, scene_sampler, simulator

SPLITS = ("train", "val", "test")


def test_no_scene_is_in_two_splits():
    source = simulator()
    ids = [source.draw(200, shard_generator(1, split, 0))["scene_id"] for split in SPLITS]
    assert len(np.unique(np.concatenate(ids))) == 600


def test_the_same_scene_has_the_same_id_wherever_it_is_drawn():
    source = simulator()
    again = simulator()
    first, second = (s.draw(50, np.random.default_rng(3))["scene_id"] for s in (source, again))
    assert np.array_equal(first, second)


def test_a_dataset_whose_splits_share_scenes_is_refused(tmp_path, monkeypatch):
    # The earlier system drew validation from the stream of training.
    monkeypatch.setattr(
        "ristune.data.writing.source.shard_generator", lambda seed, split, index: np.random.default_rng(0)
    )
    with pytest.raises(InputError, match="32 ids occur twice in split 'test' and in split 'val'"):
        write_dataset(str(tmp_path / "d"), Simulated(simulator(), {"train": 64, "val": 32, "test": 32}, 1))


def test_a_written_dataset_gives_back_what_was_drawn(tmp_path):
    source = simulator()
    write_dataset(str(tmp_path / "d"), Simulated(source, {"train": 64, "val": 32, "test": 32}, 5))
    drawn = source.draw(64, shard_generator(5, "train", 0))
    read = open_dataset(str(tmp_path / "d")).split("train")
    for name, values in drawn.items():
        assert np.array_equal(read[name].numpy(), values), name
    size = (tmp_path / "d" / "train" / "00000.parquet").stat().st_size
    assert size / 64 < 13_600


def test_no_covariance_is_stored():
    assert max(int(np.prod(c.shape)) for c in simulator().columns) == 16 * 144 * 2


def test_elements_are_off_their_places_by_the_stated_jitter():
    moved = simulator(position_jitter=0.01)._elements - GEOMETRY.elements()
    assert moved[:, 0].abs().max() == 0
    assert moved[:, 1:].std().item() == pytest.approx(0.01, rel=0.2)
    assert torch.equal(moved, simulator(position_jitter=0.01)._elements - GEOMETRY.elements())
    assert not simulator()._elements.sub(GEOMETRY.elements()).any()


def test_an_inexactly_known_link_is_stated_and_changes_the_data():
    plain = simulator().draw(4, np.random.default_rng(0))
    for changes, column in (({"channel_error_db": -10.0}, "h"), ({"position_jitter": 0.01}, "y")):
        source = simulator(**changes)
        drawn = source.draw(4, np.random.default_rng(0))
        assert not np.array_equal(drawn[column], plain[column])
        assert np.array_equal(drawn["azimuth"], plain["azimuth"])
        stated = {**source.parameters(), **source.parameters()["channel"]}
        assert stated[next(iter(changes))] == next(iter(changes.values()))


def test_a_jitter_of_a_wavelength_is_refused():
    with pytest.raises(InputError, match="simulator.position_jitter: got 0.3"):
        simulator(position_jitter=0.3)


def test_codes_of_other_amplitudes_come_back_from_the_codebook():
    drawn = Drawn(simulator(codes=replace(CODES, amplitude_jitter=0.1, dropout=0.1)), rows=2)
    task = make_task()
    task.attach(drawn)
    assert np.allclose(task.codes(drawn.batch)[1], code_values(drawn.source.codebook))
    assert (task.codes(drawn.batch).abs() - 1).abs().max() > 0.2


@pytest.mark.parametrize("model", ["iid", "static"])
def test_labels_match_the_data_of_their_source_model(model):
    """The field's own sample covariance over many snapshots is the label; noise and channel are left out."""
    source = simulator(scene_sampler(source_model=model, num_sources=[2, 3]), snapshots=3000)
    drawn, symbols = source.draw_known(4, np.random.default_rng(0))
    labels = [torch.from_numpy(drawn[name]) for name in ("azimuth", "elevation", "range", "power", "phase")]
    field = torch.from_numpy(symbols) @ source_steering(*labels[:3], GEOMETRY).mT
    factor = covariance_factor(*labels, GEOMETRY, model)
    sample = field.mT @ field.conj() / 3000
    sample *= 144 / torch.diagonal(sample, dim1=1, dim2=2).real.sum(1)[:, None, None]
    truth = factor @ factor.mH
    error = (sample - truth).abs().square().sum((1, 2)) / truth.abs().square().sum((1, 2))
    assert error.max() < (0.01 if model == "iid" else 1e-6)
    # The other model's label is far off: the test can fail.
    other = covariance_factor(*labels, GEOMETRY, "static" if model == "iid" else "iid")
    wrong = (sample - other @ other.mH).abs().square().sum((1, 2)) / truth.abs().square().sum((1, 2))
    assert wrong.min() > 0.1


def test_snapshots_are_what_channel_and_codes_make_of_the_field():
    """At high SNR, y_l = H D(c_l) A s_l lies in the span of the coded responses of the labels."""
    drawn = Drawn(simulator(scene_sampler(num_sources=[2, 2])), rows=64)
    keep = drawn.batch["snr_db"] > 10
    batch = {k: v[keep] for k, v in drawn.batch.items()}
    y, h = torch.view_as_complex(batch["y"]), torch.view_as_complex(batch["h"].float())
    codes = torch.from_numpy(code_values(drawn.source.codebook))
    factor = covariance_factor(
        *(batch[n] for n in ("azimuth", "elevation", "range", "power", "phase")), GEOMETRY, "iid"
    )[..., :2]
    coded = h.unsqueeze(1) @ (codes[:, :, None] * factor.unsqueeze(1))
    inside = coded @ torch.linalg.lstsq(coded, y.unsqueeze(-1)).solution
    residual = (y.unsqueeze(-1) - inside).abs().square().mean((1, 2, 3))
    # 14 of 16 dimensions hold noise alone.
    assert torch.allclose(residual / batch["noise_var"] * 16 / 14, torch.ones(len(residual)), atol=0.4)


@pytest.mark.parametrize(("name", "value"), [("snapshots", 0), ("channel_dtype", "f8")])
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"simulator.{name}: got "):
        simulator(**{name: value})


@pytest.mark.parametrize(
    "override",
    [
        "simulator.codes.dropout=0.1",
        "simulator.codes.amplitude_jitter=0.1",
        "simulator.position_jitter=0.01",
        "simulator.channel.channel_error_db=-20.5",
        "simulator.channel.kappa=[0.5,2.5]",
        "simulator.channel.snr_db=[2.5,7.5]",
        "simulator.scene.power_spread_db=3.5",
        "task.field_of_view.range_m=[2.5,9.5]",
        "task.geometry.wavefront=fresnel",
        "task.geometry.amplitude=spherical",
    ],
)
def test_every_real_number_of_the_configuration_may_be_a_fraction(override):
    source = build(compose([override]).simulator)
    assert np.isfinite(source.draw(2, np.random.default_rng(0))["y"]).all()
    value = override.partition("=")[2].replace(",", ", ")
    assert value in str(source.parameters())
