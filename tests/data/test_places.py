"""Where a node may keep samples."""

import os

import pytest

from ristune.data import places as module
from ristune.data.config import DataConfig
from ristune.data.places import places
from ristune.errors import InputError


def settings(**changes):
    values = dict(uri="d", train_limit=None, val_limit=None, fraction=1.0, filter={}, mode="auto", window=16)
    more = dict(prefetch=1, gpu_share=0.6, cache=None, cache_memory_share=0.25, cache_disk_gb=200.0)
    return DataConfig(**{**values, **more, **changes})


def test_shared_memory_is_preferred_and_the_disk_comes_second(monkeypatch, tmp_path):
    monkeypatch.delenv("RISTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory, disk = places(settings(), print)
    assert str(memory.path) == f"/dev/shm/ristune-{os.getuid()}"
    assert memory.limit == pytest.approx(
        0.25 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=1e-6
    )
    assert (disk.path, disk.limit) == (tmp_path / "ristune", 200 * 10**9)
    assert places(settings(cache_memory_share=0.0), print) == (disk,)
    assert [given.path for given in places(settings(cache=str(tmp_path / "x")), print)] == [tmp_path / "x"]
    monkeypatch.setenv("RISTUNE_CACHE", str(tmp_path / "y"))
    assert [given.path for given in places(settings(), print)] == [tmp_path / "y"]


def test_folders_that_cannot_be_used_are_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at" / "all" / "\udc80")
    for given, rule in [
        (str(tmp_path / "file"), "it must be a folder that can be written"),
        (str(tmp_path / "file/below"), "it must be a folder that can be written"),
        (str(tmp_path / ("x" * 300)), "it must be a folder that can be written"),
        (str(tmp_path / "nul\0byte"), "it must be the path of a folder"),
    ]:
        with pytest.raises(InputError, match=f"data.cache: got .*{rule}"):
            places(settings(cache=given), print)
    monkeypatch.setenv("RISTUNE_CACHE", "relative")
    with pytest.raises(InputError, match="RISTUNE_CACHE: got 'relative'; it must be an absolute path"):
        places(settings(), print)
    monkeypatch.setenv("RISTUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="RISTUNE_CACHE: got"):
        places(settings(), print)
    with pytest.raises(InputError, match="data.cache_disk_gb: got inf; it must be 0 or more, and finite"):
        settings(cache_disk_gb=float("inf"))


def test_shared_memory_that_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.delenv("RISTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "disk"))
    monkeypatch.setattr("ristune.data.places.SHARED_MEMORY", tmp_path)
    folder = tmp_path / f"ristune-{os.getuid()}"
    folder.mkdir(mode=0o700)
    assert places(settings(), print)[0].path == folder
    folder.chmod(0o777)
    lines = []
    assert [found.path for found in places(settings(), lines.append)] == [tmp_path / "disk" / "ristune"]
    assert "shared memory is not used: " in lines[0]


def test_a_user_without_a_home_has_a_place_all_the_same(tmp_path, monkeypatch):
    for name in ("RISTUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (found,) = places(settings(cache_memory_share=0.0), print)
    assert found.path == tmp_path / f"ristune-{os.getuid()}"


def test_memory_is_what_the_container_may_use(tmp_path, monkeypatch):
    (tmp_path / "limit").write_text("1000000\n")
    monkeypatch.setattr(module, "CONTAINER_LIMITS", (str(tmp_path / "none"), str(tmp_path / "limit")))
    assert module._memory() == 1000000
    (tmp_path / "limit").write_text("max\n")
    assert module._memory() > 2**30
