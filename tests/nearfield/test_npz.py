import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from ristune.errors import InputError
from ristune.nearfield.archives import open_archives
from ristune.nearfield.npz import open_npz, sha256
from tests.nearfield.old_shards import old_shard, save


@pytest.fixture(scope="module")
def shard():
    return old_shard(6)


@pytest.fixture
def path(shard, tmp_path):
    return save(tmp_path / "a.npz", shard, without=())


def test_rows_are_read_in_place_whatever_lies_between_them(shard, path):
    members = open_npz(path, ["y", "R_samp", "K", "absent"])
    assert sorted(members) == ["K", "R_samp", "y"]
    for rows in ([0], [5], [0, 1, 2, 3, 4, 5], [1, 2, 5], [0, 3, 4]):
        assert np.array_equal(members["y"].read(np.array(rows)), shard["y"][rows])
        assert np.array_equal(members["K"].read(np.array(rows)), shard["K"][rows])


def test_a_file_that_was_cut_off_is_refused(path):
    member = open_npz(path, ["y"])["y"]
    short = replace(member, shape=(10**6, *member.shape[1:]))
    with pytest.raises(InputError, match="got 'y'; the file must hold the whole array"):
        short.read(np.arange(999_000, 10**6))
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(InputError, match="it must be a file that numpy.savez wrote"):
        open_npz(path, ["y"])


def test_what_cannot_be_read_by_rows_is_refused_with_a_remedy(shard, tmp_path):
    packed = str(tmp_path / "packed.npz")
    np.savez_compressed(packed, y=shard["y"])
    with pytest.raises(
        InputError, match="got 'y'; arrays must be stored.*unzip .*packed.npz -d packed.*zip -0"
    ):
        open_npz(packed, ["y"])
    turned = save(tmp_path / "turned.npz", {"y": np.asfortranarray(shard["y"])})
    with pytest.raises(InputError, match="y: <f4 .* in Fortran order.*ascontiguousarray"):
        open_npz(turned, ["y"])
    complex_ = save(tmp_path / "complex.npz", {"y": shard["y"].view(np.complex64)[..., 0]})
    with pytest.raises(InputError, match="y: <c8 .* real numbers"):
        open_npz(complex_, ["y"])
    # What is not asked for does not matter.
    assert open_npz(packed, ["K"]) == {}


def test_the_remedy_for_compressed_files_works(shard, tmp_path):
    packed = tmp_path / "packed.npz"
    np.savez_compressed(packed, **shard)
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(tmp_path / "stored.npz", "w") as stored:
        for name in archive.namelist():
            stored.writestr(name, archive.read(name))
    member = open_npz(str(tmp_path / "stored.npz"), ["y"])["y"]
    assert np.array_equal(member.read(np.array([1, 4])), shard["y"][[1, 4]])


def test_the_hash_is_that_of_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(str(tmp_path / "a")).startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("ptr", lambda a: a[:, :14], r"ptr: \[6, 14\].*as many azimuths as elevations and ranges"),
        ("codes", lambda a: a[:, :, :100], r"its shape must be \[n, L, N, 2\]"),
        ("K", lambda a: a[:4], r"K: \[4\].*n = 6"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(shard, tmp_path, name, change, match):
    path = save(tmp_path / "a.npz", {**shard, name: change(shard[name])})
    with pytest.raises(InputError, match=match):
        open_archives([path])


def test_scalars_may_be_columns_and_covariances_absent(shard, tmp_path):
    columns = {**shard, "K": shard["K"][:, None], "snr": shard["snr"][:, None]}
    (archive,), sizes = open_archives([save(tmp_path / "a.npz", columns, without=("R", "R_samp", "H"))])
    assert archive.rows == 6 and sizes.sources == 5 and "R" not in sizes.arrays
    assert archive.read("K", np.array([2]))[0, 0] == shard["K"][2]


def test_files_of_different_kinds_are_refused(shard, tmp_path):
    paths = [save(tmp_path / "a.npz", shard), save(tmp_path / "b.npz", shard, without=("R",))]
    with pytest.raises(InputError, match="b.npz: got .*all files must have the sizes and arrays of .*a.npz"):
        open_archives(paths)


@pytest.mark.parametrize(
    ("missing", "match"), [("H_full", "the effective channel H tells only L"), ("snr", "add snr")]
)
def test_arrays_that_are_required_are_named(shard, tmp_path, missing, match):
    with pytest.raises(InputError, match=match):
        open_archives([save(tmp_path / "a.npz", shard, without=(missing,))])


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (0, "zeros only")]
)
def test_bad_values_are_named_by_file_array_and_row(shard, tmp_path, value, kind):
    y = shard["y"].copy()
    y[4] = value
    (archive,), _ = open_archives([save(tmp_path / "a.npz", {**shard, "y": y})])
    assert len(archive.read("y", np.array([0, 3]))) == 2
    with pytest.raises(InputError, match=f"a.npz: got \"array 'y', row 4: {kind}\""):
        archive.read("y", np.array([1, 4, 5]))
