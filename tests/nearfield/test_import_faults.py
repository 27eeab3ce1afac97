"""What the importer finds wrong in files, refuses, and mends."""

import re
from dataclasses import replace

import numpy as np
import pytest

from ristune.data.writing.source import parts
from ristune.errors import InputError
from tests.nearfield.conftest import GEOMETRY, scene_sampler, simulator
from tests.nearfield.npz_files import (
    OLD,
    ROWS,
    all_rows,
    checked,
    importer,
    matched,
    shards,
    survey,
    text,
    truth,
)
from tests.nearfield.old_shards import OURS, old_shard, save


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> dict[str, list[str]]:
    """Files in another simulator's convention, drawn from seeds 0, 1, 2."""
    return shards(tmp_path_factory.mktemp("old"), convention=OLD)


def test_a_missing_channel_is_refused_with_its_reason(tmp_path):
    with pytest.raises(InputError, match="train.npz: got .*'H_full'.*tells only L of the N numbers"):
        importer(shards(tmp_path, without=("H_full",)))


@pytest.mark.parametrize(
    ("changed", "equation"),
    [
        (["codes"], r"y = H_full D\(codes\^\*\) A s"),
        (["H_full"], r"y = H_full\^\* D\(codes\) A s"),
        (["R"], r"y\^\* = H_full\^\* D\(codes\^\*\) A s"),
    ],
)
def test_snapshots_of_another_sign_than_their_labels_are_told_and_undone(tmp_path, changed, equation):
    def conjugate(shard: dict[str, np.ndarray]) -> None:
        for name in changed:
            shard[name][..., 1] *= -1

    source = survey(shards(tmp_path / "npz", conjugate))
    assert re.search(f"warning: labels and snapshots agree only as {equation}: it is undone", text(source))
    assert checked(source, tmp_path / "d") == []


def test_snapshots_of_other_scenes_are_refused(tmp_path):
    def shuffle(shard: dict[str, np.ndarray]) -> None:
        shard["y"] = np.roll(shard["y"], 1, axis=0)

    with pytest.raises(
        InputError, match="y: got '.* at best'; the labelled sources must explain the snapshots"
    ):
        survey(shards(tmp_path, shuffle))


def test_a_few_rows_whose_snapshots_are_of_other_scenes_are_counted(tmp_path):
    def swap(shard: dict[str, np.ndarray]) -> None:
        shard["y"][[0, 1]] = shard["y"][[1, 0]]

    drawn = simulator(channel_dtype="f4")
    object.__setattr__(drawn.channel, "snr_db", [10, 20])
    source = survey(shards(tmp_path, swap, source=drawn))
    assert re.search(
        r"warning: 6 of 160 rows from 10 dB are not explained by their sources, first .*train.npz row 0",
        text(source),
    )


def test_a_row_whose_labels_do_not_give_its_covariance_is_named(tmp_path):
    def swap(shard: dict[str, np.ndarray]) -> None:
        if len(shard["y"]) == ROWS["test"]:
            shard["R"][[7, 8]] = shard["R"][[8, 7]]

    drawn = simulator(channel_dtype="f4")
    with pytest.raises(InputError, match=r"test.npz: got \"array 'R', row 7: residual .*2 of the 24 rows"):
        importer(shards(tmp_path, swap, source=drawn), seed=3).survey(parts)


@pytest.mark.parametrize("relabel", [False, True])
def test_coherent_data_with_incoherent_labels_are_reported_and_can_be_relabelled(tmp_path, relabel):
    drawn = simulator(scene_sampler(source_model="static"), channel_dtype="f4")
    source = survey(shards(tmp_path / "npz", source=drawn, wrong_labels="iid"), relabel=relabel)
    assert "warning: coherent data with incoherent labels" in text(source)
    assert source.parameters()["coherent_data"] is True
    findings = checked(source, tmp_path / "d")
    if not relabel:
        assert "give importer.relabel=true" in text(source)
        assert findings and all("coherent but labelled incoherent" in found for found in findings)
        return
    assert findings == []
    found, true = source.arrays(source.parts()[0]), truth(96, 0, source=drawn)
    of = matched(found, true)
    clear = (found["snr_db"] > 10) & (found["num_sources"] > 1)
    turn = np.exp(1j * (found["phase"] - true["phase"][of]))[clear]
    assert np.median(np.abs(turn[:, 1] / turn[:, 0] - 1)) < 0.2


def test_coherent_labels_stay_coherent(tmp_path):
    drawn = simulator(scene_sampler(source_model="static"), channel_dtype="f4")
    source = survey(shards(tmp_path / "npz", source=drawn, convention=replace(OURS, origin="first element")))
    assert source.parameters()["scene"]["source_model"] == "static" and "warning" not in text(source)
    found, true = source.arrays(source.parts()[0]), truth(96, 0, source=drawn)
    of = matched(found, true)
    assert np.allclose(found["power"], true["power"][of], atol=1e-3)
    assert checked(source, tmp_path / "d") == []


def test_scenes_in_two_splits_are_refused_dropped_or_allowed(tmp_path):
    files = shards(tmp_path)
    leaky = old_shard(ROWS["train"], seed=0)
    part = {name: values[10:20] for name, values in leaky.items()}
    files["val"].append(save(tmp_path / "leak.npz", part))
    files["train"].append(save(tmp_path / "twice.npz", {name: values[:5] for name, values in leaky.items()}))
    with pytest.raises(
        InputError, match="duplicates: got '5 within train, 10 of val in train'.*--drop-duplicates"
    ):
        survey(files)
    dropped = survey(files, duplicates="drop")
    assert "warning: the same scene, labels and snapshots: 5 within train, 10 of val in train" in text(
        dropped
    )
    assert "15 repeated rows dropped" in text(dropped)
    assert len(np.unique(all_rows(dropped)["scene_id"])) == 160
    allowed = survey(files, duplicates="allow")
    assert len(np.unique(all_rows(allowed)["scene_id"])) == 175


def test_the_same_labels_with_other_snapshots_are_reported(tmp_path):
    files = shards(tmp_path)
    again = {name: values[:8].copy() for name, values in old_shard(ROWS["train"], seed=0).items()}
    again["y"] *= 1.001
    files["test"].append(save(tmp_path / "again.npz", again))
    assert "warning: the same labels, with other snapshots too: 8 of test in train" in text(survey(files))


def test_an_snr_that_is_not_of_the_data_is_reported_and_measured(tmp_path):
    def shift(shard: dict[str, np.ndarray]) -> None:
        shard["snr"] += 6

    source = survey(shards(tmp_path / "npz", shift))
    shown = re.search(
        r"warning: snr differs from the data: measured minus labelled (-\d.\d+) dB", text(source)
    )
    assert shown and float(shown[1]) == pytest.approx(-6, abs=0.3)
    assert source.parameters()["noise_var"] == "residual"
    assert checked(source, tmp_path / "d") == []


def test_a_number_of_sources_that_contradicts_the_labels_is_reported(tmp_path):
    def more(shard: dict[str, np.ndarray]) -> None:
        shard["K"][int(shard["K"].argmin())] += 1

    assert "warning: K differs from the number of ranges in 3 rows, first" in text(
        survey(shards(tmp_path, more))
    )


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("y", np.nan, "array 'y', row 5: NaN or infinite"),
        ("H_full", 0.0, "array 'H_full', row 5: zeros only"),
        ("R", np.inf, "array 'R', row 5: NaN or infinite"),
        ("snr", np.nan, "array 'snr', row 5: NaN or infinite"),
        ("K", 2.5, "array 'K', row 5: 2.5"),
        ("K", 0.0, "array 'K', row 5: 0"),
        ("ptr", 50.0, "array 'ptr', row 5: 50"),
        ("codes", 0.5, "array 'codes', row 5: modulus off by 0.29"),
    ],
)
def test_bad_rows_are_named(tmp_path, name, value, match):
    def spoil(shard: dict[str, np.ndarray]) -> None:
        if len(shard["y"]) == ROWS["val"]:
            shard[name][5] = value

    with pytest.raises(InputError, match=re.escape(match)) as error:
        survey(shards(tmp_path, spoil))
    assert error.value.name.endswith("val.npz")


def test_values_out_of_range_are_refused_by_name(old):
    for changes, match in (
        ({"duplicates": "keep"}, "importer.duplicates: got 'keep'"),
        ({"channel_dtype": "f8"}, "importer.channel_dtype: got 'f8'"),
        (
            {"geometry": replace(GEOMETRY, rows=10)},
            "task.geometry: got '10 x 12'.*the 144 elements of H_full",
        ),
        (
            {"geometry": replace(GEOMETRY, wavefront="fresnel")},
            "task.geometry: wavefront, amplitude: got 'fresnel, unit'",
        ),
        ({"files": {}}, "importer.files"),
        ({"files": {"dev": []}}, "importer.files"),
    ):
        with pytest.raises(InputError, match=match):
            importer(**{"files": old, **changes})
