"""What the importer makes of sound files."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from ristune.data.writing.source import parts
from ristune.errors import InputError
from ristune.nearfield.conventions import SIGNS
from ristune.nearfield.imported import NpzSource
from tests.nearfield.conftest import scene_sampler, simulator
from tests.nearfield.npz_files import (
    LABELS,
    OLD,
    all_rows,
    checked,
    importer,
    matched,
    shards,
    survey,
    text,
    truth,
)
from tests.nearfield.old_shards import complex_parts


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> dict[str, list[str]]:
    """Files in another simulator's convention, drawn from seeds 0, 1, 2."""
    return shards(tmp_path_factory.mktemp("old"), convention=OLD)


@pytest.fixture(scope="module")
def source(old) -> NpzSource:
    return survey(old)


def test_rows_come_back_as_they_were_drawn(source):
    part = source.parts()[0]
    assert (part.split, part.rows) == ("train", 96)
    found, true = source.arrays(part), truth(96, 0)
    of = matched(found, true)
    assert sorted(of) == list(range(96)) and not np.array_equal(of, np.arange(96))
    for name in LABELS:
        assert np.allclose(found[name], true[name][of], atol=3e-6), name
    # Snapshots and channel are conjugated back and their elements put in order, bit by bit.
    assert np.array_equal(found["y"], true["y"][of])
    assert np.array_equal(found["h"], true["h"][of])
    assert np.allclose(found["noise_var"], true["noise_var"][of], rtol=0.3)
    assert np.median(np.abs(found["noise_var"] / true["noise_var"][of] - 1)) < 0.05
    _, table = source.tables()["codebooks"]
    assert np.array_equal(table["phase"][found["codebook"]][0], simulator().codebook["phase"])
    assert {each.name: each.dtype for each in source.columns} == {k: v.dtype.str for k, v in found.items()}


def test_what_was_found_is_said_and_kept(source):
    said = text(source)
    assert "warning" not in said
    assert f"convention: {OLD}" in said and "R: trace N, equal powers" in said
    kept = source.parameters()
    assert kept["convention"]["sign"] == SIGNS[1] and kept["scene"]["source_model"] == "iid"
    assert kept["noise_var"] == "snr" and kept["coherent_data"] is False
    assert [each["file"] for each in kept["origin"]] == ["train.npz", "val.npz", "test.npz"]
    assert "/" not in json.dumps(kept["origin"])


def test_the_task_finds_nothing_wrong_in_what_was_imported(source, tmp_path):
    assert checked(source, tmp_path / "d") == []


def test_the_order_depends_on_the_seed_alone(old, source):
    again = survey(old)
    first = source.arrays(source.parts()[0])
    assert np.array_equal(first["scene_id"], again.arrays(again.parts()[0])["scene_id"])
    other = survey(old, seed=2)
    assert not np.array_equal(first["scene_id"], other.arrays(other.parts()[0])["scene_id"])


def test_shards_of_a_pickled_source_are_the_same(old):
    source = importer(old).survey(lambda sizes, columns: parts(sizes, columns, 20))
    copy = pickle.loads(pickle.dumps(source))
    assert [part.rows for part in source.parts()] == [20, 20, 20, 20, 16, 20, 20, 20, 4]
    for part in reversed(source.parts()):
        ours, theirs = source.arrays(part), copy.arrays(part)
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert len(np.unique(all_rows(source)["scene_id"])) == 160


def test_progress_counts_every_row(old):
    looked: list[int] = []
    source = importer(old).survey(parts, looked.append)
    written: list[int] = []
    source.arrays(source.parts()[0], written.append)
    assert sum(looked) == 160 and sum(written) == 96


@pytest.mark.parametrize("trace", ["K", "N K", "1"])
def test_the_normalisation_is_named(tmp_path, trace):
    source = survey(shards(tmp_path, trace=trace))
    assert f"R: trace {trace}, equal powers" in text(source)
    assert np.allclose(all_rows(source)["power"].sum(1), 1)


def test_unequal_powers_come_back_and_a_floor_is_left_out(tmp_path):
    drawn = simulator(scene_sampler(power_spread_db=6.0), channel_dtype="f4")

    def load(shard: dict[str, np.ndarray]) -> None:
        shard["R"][..., 0] += 0.1 * np.eye(144, dtype=np.float32)

    source = survey(shards(tmp_path, load, source=drawn))
    assert "powers differ" in text(source) and "multiple of the identity that labels leave out" in text(
        source
    )
    found, true = source.arrays(source.parts()[0]), truth(96, 0, source=drawn)
    assert np.allclose(found["power"], true["power"][matched(found, true)], atol=1e-5)


def test_without_covariances_the_snapshots_tell(tmp_path):
    source = survey(shards(tmp_path / "npz", convention=OLD, without=("R", "R_samp", "H")))
    said = text(source)
    assert f"convention: {OLD}" in said and "R: there is none" in said and "powers: equal" in said
    found, true = source.arrays(source.parts()[0]), truth(96, 0)
    assert np.allclose(found["azimuth"], true["azimuth"][matched(found, true)], atol=3e-6)
    assert checked(source, tmp_path / "d") == []


def test_powers_without_covariances_are_estimated_where_they_differ(tmp_path):
    drawn = simulator(scene_sampler(power_spread_db=20.0, num_sources=[2, 2]), channel_dtype="f4")
    source = survey(shards(tmp_path, source=drawn, without=("R", "R_samp")))
    assert "powers: estimated from the snapshots" in text(source)
    found, true = source.arrays(source.parts()[0]), truth(96, 0, source=drawn)
    error = found["power"] - true["power"][matched(found, true)]
    assert np.sqrt(np.mean(error[found["snr_db"] > 10] ** 2)) < 0.1


def test_shares_cut_the_rows_of_all_files_at_random(old):
    files = {"all": [path for paths in old.values() for path in paths]}
    source = survey(files, shares=[0.5, 0.25, 0.25])
    assert [part.rows for part in source.parts()] == [80, 40, 40]
    assert len(np.unique(all_rows(source)["scene_id"])) == 160
    with pytest.raises(InputError, match="shares: got .*three numbers from 0"):
        survey(files, shares=[0.5, 0.5])


def test_codes_of_each_sample_are_kept_as_phases(tmp_path):
    source = survey(own_codes(tmp_path / "npz", grid=True))
    assert source.tables() == {} and source.parameters()["codes"] == {"family": "per-sample"}
    (code,) = [each for each in source.columns if each.name == "code"]
    assert (code.dtype, code.shape) == ("|u1", (16, 144))
    assert checked(source, tmp_path / "d") == []


def test_phases_off_the_grid_are_kept_in_full(tmp_path):
    source = survey(own_codes(tmp_path / "npz", grid=False))
    (code,) = [each for each in source.columns if each.name == "code"]
    assert code.dtype == "<f4"
    assert checked(source, tmp_path / "d") == []


def own_codes(folder: Path, grid: bool) -> dict[str, list[str]]:
    """Files whose every row has codes of its own: more codebooks than a table is made of."""
    rng = np.random.default_rng(0)

    def turn(shard: dict[str, np.ndarray]) -> None:
        # One more phase for all elements of a row's snapshots: y turns as the codes do.
        steps = (
            rng.integers(0, 256, (len(shard["y"]), 16, 1))
            if grid
            else rng.uniform(0, 256, (len(shard["y"]), 16, 1))
        )
        for name in ("codes", "y", "H"):
            values = (shard[name][..., 0] + 1j * shard[name][..., 1]) * np.exp(2j * np.pi / 256 * steps)
            shard[name] = complex_parts(values)

    return shards(folder, turn)


def test_a_channel_that_half_precision_loses_is_stored_in_full(tmp_path):
    def weaken(shard: dict[str, np.ndarray]) -> None:
        for name in ("H_full", "H", "y"):
            shard[name] *= np.float32(1e-4)

    source = survey(shards(tmp_path / "npz", weaken), channel_dtype="f2")
    assert source.parameters()["channel_dtype"] == "f4"
    assert checked(source, tmp_path / "d") == []
    (column,) = [
        each for each in survey(shards(tmp_path / "as-is"), channel_dtype="f2").columns if each.name == "h"
    ]
    assert column.dtype == "<f2"
