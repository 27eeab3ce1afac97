import json
import pickle
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristune import train
from ristune.data.dataset import open_dataset
from ristune.data.writing.source import parts
from ristune.data.writing.writer import write_dataset
from ristune.dataset import import_npz
from ristune.errors import InputError
from ristune.nearfield.conventions import ORDERS, SIGNS
from ristune.nearfield.imported import NpzSource
from ristune.nearfield.importing import NpzImporter
from tests.nearfield.conftest import GEOMETRY, VIEW, make_task, scene_sampler, simulator
from tests.nearfield.old_shards import OURS, complex_parts, old_shard, save

ROWS = {"train": 96, "val": 40, "test": 24}
OLD = replace(OURS, sign=SIGNS[1], order=ORDERS[1], mirror="u", direction="u = cos az cos el, v = sin el")
LABELS = ("num_sources", "azimuth", "elevation", "range", "power", "phase")


def importer(files: Mapping[str, Sequence[str]], **changes: Any) -> NpzImporter:
    values: dict[str, Any] = dict(
        shares=[],
        geometry=GEOMETRY,
        field_of_view=VIEW,
        channel_dtype="f4",
        relabel=False,
        duplicates="refuse",
        seed=1,
    )
    return NpzImporter(files=files, **{**values, **changes})


def survey(files: Mapping[str, Sequence[str]], **changes: Any) -> NpzSource:
    return importer(files, **changes).survey(parts)


def shards(
    folder: Path, change: Callable[[dict[str, np.ndarray]], Any] = lambda shard: None, **values: Any
) -> dict[str, list[str]]:
    """Files of three splits, each changed before it is written."""
    without = values.pop("without", ("R_samp",))
    made = {}
    for seed, (name, rows) in enumerate(ROWS.items()):
        shard = old_shard(rows, seed=seed, **values)
        change(shard)
        made[name] = [save(folder / f"{name}.npz", shard, without=without)]
    return made


def all_rows(source: NpzSource) -> dict[str, np.ndarray]:
    blocks = [source.arrays(part) for part in source.parts()]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def checked(source: NpzSource, folder: Path) -> list[str]:
    """Write the source, and what the task finds in it."""
    write_dataset(str(folder), source)
    dataset = open_dataset(str(folder))
    task = make_task()
    task.attach(dataset)
    return [text for name in ROWS for text in task.check_sample(dict(dataset.split(name)))]


def text(source: NpzSource) -> str:
    return "\n".join(source.lines)


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> dict[str, list[str]]:
    """Files in another simulator's convention, drawn from seeds 0, 1, 2."""
    return shards(tmp_path_factory.mktemp("old"), convention=OLD)


@pytest.fixture(scope="module")
def source(old) -> NpzSource:
    return survey(old)


def truth(rows: int, seed: int, **values: Any) -> dict[str, np.ndarray]:
    drawn = values.pop("source", None) or simulator(channel_dtype="f4", **values)
    return dict(drawn.draw(rows, np.random.default_rng(seed)))


def matched(found: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray]) -> np.ndarray:
    """For each row that was found, the one it was made of, told by the SNR."""
    return np.array([int(np.abs(true["snr_db"] - snr).argmin()) for snr in found["snr_db"]])


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
    assert np.array_equal(table["phase"][found["codebook"]][0], simulator().codes)
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


def test_shares_cut_the_rows_of_all_files_at_random(old):
    files = {"all": [path for paths in old.values() for path in paths]}
    source = survey(files, shares=[0.5, 0.25, 0.25])
    assert [part.rows for part in source.parts()] == [80, 40, 40]
    assert len(np.unique(all_rows(source)["scene_id"])) == 160
    with pytest.raises(InputError, match="shares: got .*three numbers from 0"):
        survey(files, shares=[0.5, 0.5])


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


def test_values_out_of_range_are_refused_by_name(old):
    for changes, match in (
        ({"duplicates": "keep"}, "importer.duplicates: got 'keep'"),
        ({"channel_dtype": "f8"}, "importer.channel_dtype: got 'f8'"),
        (
            {"geometry": replace(GEOMETRY, rows=10)},
            "task.geometry: got '10 x 12'.*the 144 elements of H_full",
        ),
        ({"files": {}}, "importer.files"),
        ({"files": {"dev": []}}, "importer.files"),
    ):
        with pytest.raises(InputError, match=match):
            importer(**{"files": old, **changes})


def test_the_command_imports_and_its_last_line_trains(old, tmp_path, capsys):
    folder, out = str(Path(old["train"][0]).parent), str(tmp_path / "d")
    assert import_npz.main([folder, "--out", out, "task.field_of_view.range_m=[3,10]"]) == 0
    shown = capsys.readouterr().out
    assert f"convention: {OLD}" in shown and "96 train, 40 val, 24 test" in shown
    arguments = shlex.split(shown.strip().splitlines()[-1].partition("ristune.train ")[2])
    assert "task.field_of_view.range_m=[2,10]" in arguments
    more = ["task.grid=[4,7,11]", "task.network.width=8", "training.epochs=1", "tracking.mode=disabled"]
    assert train.main([*arguments, *more, "--out", str(tmp_path / "run")]) == 0
    assert import_npz.main([folder, "--out", out]) == 2
    assert "--out: got" in capsys.readouterr().err


@pytest.mark.parametrize("shares", ["a,b", "0.8;0.1;0.1", ""])
def test_shares_that_are_no_numbers_are_refused_with_the_rule(shares, capsys):
    with pytest.raises(SystemExit):
        import_npz.main(["all.npz", "--shares", shares])
    text = f"--shares: got {shares!r}; it must be three numbers, for train, val and test, as in 0.8,0.1,0.1"
    assert text in " ".join(capsys.readouterr().err.split())


def test_the_command_refuses_files_whose_split_it_cannot_tell(old, tmp_path, capsys):
    path = tmp_path / "scenes.npz"
    path.write_bytes(Path(old["val"][0]).read_bytes())
    assert import_npz.main([str(path), "--out", str(tmp_path / "d")]) == 2
    assert "must start with train, val or test" in capsys.readouterr().err
    assert import_npz.main(["--train", str(tmp_path / "none.npz"), "--out", str(tmp_path / "d")]) == 2
    assert "it must be a .npz file or a folder" in capsys.readouterr().err
    assert import_npz.main(["--out", str(tmp_path / "d")]) == 2
    assert "at least one .npz file is required" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_splits_are_told_by_the_names_of_files_and_folders(old, tmp_path):
    for name in ("train/a.npz", "train/b.npz", "val_2.npz", "Test-1.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = import_npz.find_files([str(tmp_path)], {}, shares=False)
    assert {split: [Path(f).name for f in files] for split, files in found.items()} == {
        "train": ["a.npz", "b.npz"],
        "val": ["val_2.npz"],
        "test": ["Test-1.npz"],
    }
    with pytest.raises(InputError, match="a file is named once"):
        import_npz.find_files([str(tmp_path)], {"val": [str(tmp_path / "val_2.npz")]}, shares=False)


def test_a_task_without_an_importer_says_so(old, tmp_path, capsys):
    arguments = ["task=toy", "space=toy", "--config-dir", "tests/configs", "--train", old["train"][0]]
    assert import_npz.main([*arguments, "--out", str(tmp_path / "d")]) == 2
    assert "importer: got None; the task 'toy' has none" in capsys.readouterr().err


MEMORY = """
    import re, sys
    from pathlib import Path
    from ristune.data.writing.source import parts
    from tests.nearfield.test_importing import importer

    source = importer({"train": sys.argv[1:]}, duplicates="allow").survey(lambda s, c: parts(s, c, 200))
    for part in source.parts():
        source.arrays(part)
    # Not ru_maxrss, which a process inherits from the one that started it.
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_files(tmp_path):
    """Files of 40 times the rows need no more than a few bytes a row."""
    shard = old_shard(100)
    small = save(tmp_path / "small.npz", shard)
    many = {name: np.concatenate([values] * 40) for name, values in shard.items() if name != "R_samp"}
    large = save(tmp_path / "large.npz", many)
    peaks = []
    for path in (small, large):
        code = textwrap.dedent(MEMORY)
        run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout) * 1024)
    size = Path(large).stat().st_size
    assert size > 500e6 and peaks[1] - peaks[0] < 0.1 * size, (size, peaks)
