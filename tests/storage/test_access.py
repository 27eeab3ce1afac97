import os
import threading
from pathlib import Path

import pytest

from ristune.errors import InputError
from ristune.storage.access import open_storage
from tests.storage.ranges import ranged


@pytest.fixture
def storage(tmp_path):
    return open_storage(str(tmp_path / "root"))


@pytest.mark.parametrize("data", [b"", b"abc", memoryview(bytes(10_000))])
def test_what_is_written_is_read(storage, data):
    storage.write_atomic("a/b.bin", data)
    assert storage.read("a/b.bin") == bytes(data)


def test_a_file_uri_and_a_plain_path_are_the_same_place(tmp_path):
    directory = tmp_path / "with space"
    open_storage(f"file://{tmp_path}/with%20space").write_atomic("x", b"1")
    assert open_storage(str(directory)).read("x") == b"1"
    assert open_storage(directory.as_uri()) == open_storage(str(directory))


def test_a_relative_path_does_not_move_with_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = open_storage("data")
    monkeypatch.chdir("/")
    assert storage.uri == str(tmp_path / "data")


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_storage("~/data").uri == str(tmp_path / "data")


def test_other_kinds_of_places_are_refused():
    rule = "data.uri: got 'https://host/d'; it is a plain path, file:///path, s3://.*; copy the dataset"
    with pytest.raises(InputError, match=rule):
        open_storage("https://host/d", "data.uri")


@pytest.mark.parametrize(
    ("uri", "rule"), [("", "a directory is required"), ("file://host/d", "absolute path")]
)
def test_a_uri_without_a_path_is_refused(uri, rule):
    with pytest.raises(InputError, match=rule):
        open_storage(uri)


def test_a_range_is_exactly_that_range(storage):
    storage.write_atomic("x", bytes(range(100)))
    for offset, length in [(0, 0), (0, 100), (17, 3), (99, 1)]:
        assert ranged(storage, "x", offset, length) == bytes(range(offset, offset + length))


@pytest.mark.parametrize("offset", [98, 100, 1000])
def test_a_range_beyond_the_end_is_refused(storage, offset):
    storage.write_atomic("x", bytes(100))
    there = max(0, 100 - offset)
    with pytest.raises(
        InputError, match=f"root/x: got {there}; 5 bytes from byte {offset} on were asked for"
    ):
        ranged(storage, "x", offset, 5)


def test_a_file_that_is_not_there_is_refused_by_name(storage):
    rule = "root/a/x: got 'No such file or directory'; a file that can be read is required; check the path"
    with pytest.raises(InputError, match=rule):
        storage.read("a/x")
    with pytest.raises(InputError, match=rule):
        ranged(storage, "a/x", 0, 1)


def test_a_directory_is_not_read_as_a_file(storage):
    storage.write_atomic("a/x", b"")
    with pytest.raises(InputError, match="root/a: got 'Is a directory'"):
        storage.read("a")


def test_writing_replaces_the_whole_file(storage):
    storage.write_atomic("x", b"a longer text")
    storage.write_atomic("x", b"new")
    assert storage.read("x") == b"new"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(storage, monkeypatch):
    storage.write_atomic("x", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    rule = "root/x: got 'No space left on device'; a file that can be written is required; free some space"
    with pytest.raises(InputError, match=rule):
        storage.write_atomic("x", b"new")
    assert storage.read("x") == b"old"
    assert os.listdir(storage.uri) == ["x"]


def test_a_reader_never_sees_half_a_file(storage):
    size = 200_000
    storage.write_atomic("x", b"0" * size)
    done = threading.Event()

    def write():
        for turn in range(30):
            storage.write_atomic("x", b"%d" % (turn % 10) * size)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        data = storage.read("x")
        assert len(data) == size
        assert len(set(data)) == 1
    writer.join()


def test_data_reaches_the_disk_before_it_gets_its_name(storage, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda path, to: (events.append("rename"), replace(path, to))[1])
    storage.write_atomic("x", b"1")
    assert events == ["fsync", "rename", "fsync"]


def test_files_are_as_readable_to_others_as_any_file(storage, tmp_path):
    storage.write_atomic("x", b"1")
    (tmp_path / "plain").write_bytes(b"1")
    assert (tmp_path / "root/x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_listing_is_sorted_and_hides_files_being_written(storage):
    for path in ["b", "a/x", "c"]:
        storage.write_atomic(path, b"")
    Path(storage.uri, ".b.123.tmp").touch()
    assert storage.list("") == ("a", "b", "c")
    assert storage.list("a") == ("x",)
    assert storage.list("nowhere") == storage.list("b") == ()
    assert (
        storage.leftovers("") == (".b.123.tmp",) and storage.leftovers("a") == storage.leftovers("no") == ()
    )


def test_existence_is_of_files_and_directories(storage):
    storage.write_atomic("a/x", b"")
    assert storage.exists("a") and storage.exists("a/x") and storage.exists("")
    assert not storage.exists("a/y") and not storage.exists("a/x/y")


def test_removing_a_tree_leaves_its_neighbours(storage):
    for path in ["a/b/x", "a/y", "c"]:
        storage.write_atomic(path, b"")
    storage.remove_tree("a")
    storage.remove_tree("nothing")
    assert storage.list("") == ("c",)
    storage.remove_tree("c")
    assert storage.list("") == ()


def test_removing_a_link_leaves_what_it_points_to(storage, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/x").touch()
    storage.ensure_writable()
    Path(storage.uri, "link").symlink_to(tmp_path / "kept")
    storage.remove_tree("link")
    assert (tmp_path / "kept/x").exists()
    assert not storage.exists("link")


def test_a_new_place_is_made_and_left_empty(storage):
    storage.ensure_writable()
    assert os.listdir(storage.uri) == []


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path, below):
    (tmp_path / "file").touch()
    where = f"output directory: got '{tmp_path / below}'"
    rule = f"{where}; a directory that can be written to is required .*; correct its permissions"
    with pytest.raises(InputError, match=rule):
        open_storage(str(tmp_path / below)).ensure_writable()


@pytest.fixture
def locked(tmp_path):
    tmp_path.chmod(0o500)
    return tmp_path


@pytest.fixture
def unprivileged():
    """Permissions do not hold root back: give root's rights up for the test."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    yield
    os.seteuid(user)


def test_a_read_only_place_is_refused(locked, unprivileged):
    with pytest.raises(InputError, match="Permission denied"):
        open_storage(str(locked)).ensure_writable()
