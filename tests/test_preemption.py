from pathlib import Path

import pytest

from ristune import preemption
from ristune.preemption import Notice


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(preemption.VARIABLE, str(tmp_path / "notice"))
    return preemption.place()


def test_a_notice_is_seen_once_it_is_given_and_for_good(path: Path) -> None:
    notice = Notice()
    assert (notice(), notice.reason) == (False, "")
    preemption.give(path, "aws: terminate")
    assert (notice(), notice.reason) == (True, "aws: terminate")
    preemption.withdraw(path)
    preemption.withdraw(path)
    assert notice()
    assert not Notice()()
    assert list(path.parent.iterdir()) == []


def test_a_notice_of_several_lines_or_none_is_a_reason_in_one(path: Path) -> None:
    path.write_text("aws:\n  terminate\n")
    seen = Notice()
    assert (seen(), seen.reason) == (True, "aws: terminate")
    path.write_text("")
    seen = Notice()
    assert (seen(), seen.reason) == (True, "a notice without a reason")


def test_where_ray_was_started_without_nothing_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(preemption.VARIABLE, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert preemption.place() == tmp_path / "ristune-notice"
    preemption.give(preemption.place(), "aws: terminate")
    monkeypatch.setattr("os.path.exists", None)
    assert not Notice()()
