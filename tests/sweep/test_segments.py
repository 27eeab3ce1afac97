from pathlib import Path

import pytest

from ristune.errors import InputError
from ristune.storage.access import Storage, open_storage
from ristune.sweep import segments
from ristune.sweep.segments import Segments


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    """A tree of files with the interface of an object store."""
    return open_storage(str(tmp_path / "home"))


def names(store: Storage) -> tuple[str, ...]:
    return store.list("journal")


def test_a_sweep_that_has_not_begun_has_no_journal(store: Storage) -> None:
    assert not Segments(store).there()
    assert Segments(store).begin() == b""
    assert not Segments(store).there()


def test_what_is_appended_is_there_for_all_who_read(store: Storage) -> None:
    driver, reader = Segments(store), Segments(store)
    driver.begin()
    driver.append(b"a\nb\n")
    assert reader.read() == b"a\nb\n"
    driver.append(b"c\n")
    assert reader.read() == Segments(store).read() == b"a\nb\nc\n"
    assert names(store) == ("000001-000000000.jsonl",)


def test_a_segment_that_is_large_enough_is_left_alone(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4)
    driver = Segments(store)
    driver.begin()
    for line in (b"a\n", b"b\n", b"c\n"):
        driver.append(line)
    assert names(store) == ("000001-000000000.jsonl", "000001-000000002.jsonl")
    assert store.read("journal/000001-000000000.jsonl") == b"a\nb\n"
    assert Segments(store).read() == b"a\nb\nc\n"


def test_a_reader_asks_for_whole_segments_once(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 2)
    driver, reader = Segments(store), Segments(store)
    driver.begin()
    driver.append(b"a\n")
    driver.append(b"b\n")
    assert reader.read() == b"a\nb\n"
    store.remove_tree("journal/000001-000000000.jsonl")
    store.write_atomic("journal/000001-000000000.jsonl", b"")
    driver.append(b"c\n")
    assert reader.read() == b"a\nb\nc\n"


def test_what_a_fenced_driver_puts_late_is_not_there(store: Storage) -> None:
    first, second = Segments(store), Segments(store)
    first.begin()
    first.append(b"a\n")
    assert second.begin() == b"a\n"
    second.append(b"b\n")
    first.append(b"late\nlater\n")
    assert Segments(store).read() == b"a\nb\n"
    third = Segments(store)
    assert third.begin() == b"a\nb\n"
    third.append(b"c\n")
    second.append(b"late too\n")
    assert Segments(store).read() == b"a\nb\nc\n"


def test_a_segment_that_is_missing_is_named(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 2)
    driver = Segments(store)
    driver.begin()
    driver.append(b"a\n")
    driver.append(b"b\n")
    store.remove_tree("journal/000001-000000000.jsonl")
    with pytest.raises(InputError, match=r"000001-000000001.jsonl'; the lines before its line 2 must be"):
        Segments(store).read()
