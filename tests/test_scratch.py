import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ristune import scratch
from ristune.scratch import scratch_folder

HELPER = "import os, sys; from ristune.scratch import scratch_folder; import subprocess, time\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "LONGEST_TEMPORARY", 1000)
    return tmp_path


# How a helper is known: by its environment, or, where its title has written over that, by a file it has open.
ENVIRONMENT = "env={**os.environ, 'TMPDIR': str(folder)}"
OPEN_FILE = "stdout=(folder / 'log').open('w')"


def killed(place: Path, known: str) -> int:
    """A process that made a folder, started a helper, and was killed; the helper's id."""
    code = (
        f"{HELPER}from ristune import scratch; scratch.LONGEST_TEMPORARY = 1000\n"
        "with scratch_folder() as folder:\n"
        "    sleep = [sys.executable, '-c', 'import time; time.sleep(100)']\n"
        f"    helper = subprocess.Popen(sleep, {known})\n"
        "    print(helper.pid, flush=True); time.sleep(100)"
    )
    environment = {**os.environ, "TMPDIR": str(place)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    helper = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    return helper


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_folder_is_gone_afterwards(place: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == place and folder.is_dir()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("known", [ENVIRONMENT, OPEN_FILE])
def test_what_a_killed_process_left_is_ended_and_removed(place: Path, known: str) -> None:
    helper = killed(place, known)
    assert running(helper) and len(list(place.iterdir())) == 1
    with scratch_folder() as folder:
        assert list(place.iterdir()) == [folder]
    deadline = time.monotonic() + 5
    while running(helper) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(helper)


def test_a_folder_in_use_is_left_alone(place: Path) -> None:
    with scratch_folder() as first:
        (first / "file").write_text("mine")
        with scratch_folder() as second:
            assert first != second
        assert (first / "file").read_text() == "mine"


def test_a_folder_that_is_cleared_up_as_it_is_made_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, times = scratch.fcntl.flock, iter(range(9))

    def late(file: object, operation: int) -> None:
        if next(times) == 0:
            scratch._clear_up(place)
        flock(file, operation)

    monkeypatch.setattr(scratch.fcntl, "flock", late)
    with scratch_folder() as folder:
        assert (folder / scratch.ALIVE).exists()
