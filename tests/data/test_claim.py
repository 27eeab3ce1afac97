"""Several writers in one directory, as processes of their own."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from ristune.data.verify import verify
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from ristune.storage.access import open_storage
from tests.data.drawing import Drawing, files

ROOT = Path(__file__).parents[2]
# Draws a shard, says so, and waits for a file before it gives it away; with or without locks.
SLOW = """
import errno, fcntl, sys, time
from pathlib import Path
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.storage.access import open_storage
from tests.data.drawing import Drawing

def unknown(descriptor, kind):
    raise OSError(errno.ENOSYS, "Function not implemented")

if sys.argv[3] == "no locks":
    fcntl.flock = unknown

class Slow(Drawing):
    def draw(self, rows, rng):
        arrays = super().draw(rows, rng)
        print("drawn", flush=True)
        while not Path(sys.argv[2]).exists():
            time.sleep(0.01)
        return arrays

write_dataset(sys.argv[1], Simulated(Slow(), {"train": 20}, 3, 8))
"""


@pytest.fixture
def slow(tmp_path):
    """Starts a writer that has drawn its first shard and not written it; the file `go` lets it go on."""
    started = []

    def start(locks):
        command = [sys.executable, "-c", SLOW, str(tmp_path / "d"), str(tmp_path / "go"), locks]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "drawn\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("seed", [3, 4])
def test_a_second_writer_is_refused_at_once_and_the_first_is_not_disturbed(tmp_path, slow, seed):
    process = slow("locks")
    simulator = Drawing()
    with pytest.raises(InputError, match="another process is writing here, and a dataset has one writer"):
        write_dataset(str(tmp_path / "d"), Simulated(simulator, {"train": 20}, seed, 8))
    assert simulator.draws == 0
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    write_dataset(str(tmp_path / "alone"), Simulated(Drawing(), {"train": 20}, 3, 8))
    assert not (tmp_path / "d" / ".writer.tmp").exists()
    assert files(tmp_path / "d") == files(tmp_path / "alone")


@pytest.mark.parametrize("seed", [3, 4])
def test_the_lock_of_a_killed_writer_keeps_nobody_out(tmp_path, slow, seed):
    process = slow("locks")
    process.kill()
    process.communicate()
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 20}, seed, 8))
    write_dataset(str(tmp_path / "alone"), Simulated(Drawing(), {"train": 20}, seed, 8))
    assert files(tmp_path / "d") == files(tmp_path / "alone")


@pytest.mark.parametrize("seed", [3, 4])
def test_without_locks_a_writer_whose_place_was_taken_stops_before_it_writes(
    tmp_path, slow, monkeypatch, seed
):
    process = slow("no locks")

    def unknown(descriptor, kind):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 20}, seed, 8))
    before = files(tmp_path / "d")
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "InputError: uri: got" in errors and "another process writes here, so this one stops" in errors
    assert files(tmp_path / "d") == before
    assert list(verify(open_storage(str(tmp_path / "d")))) == []


def test_a_writer_whose_place_was_taken_writes_no_manifest(tmp_path):
    target = tmp_path / "d"

    def taken(function, parts, progress):
        yield from (function(part, progress) for part in parts)
        if parts:
            (target / "unfinished").write_text('{"plan":{},"token":"of another writer"}')

    with pytest.raises(InputError, match="another process writes here"):
        write_dataset(str(target), Simulated(Drawing(), {"train": 20}, 3, 8), taken)
    assert not [name for name in files(target) if name.startswith("manifest")]


def test_a_record_is_not_written_to_a_place_that_was_taken(tmp_path, monkeypatch):
    target = tmp_path / "d"
    replace = Path.replace

    def taken(path, to):
        replace(path, to)
        if to.name == "00000.parquet":
            (target / "unfinished").write_text('{"plan":{},"token":"of another writer"}')

    monkeypatch.setattr(Path, "replace", taken)
    with pytest.raises(InputError, match="another process writes here"):
        write_dataset(str(target), Simulated(Drawing(), {"train": 20}, 3, 8))
    assert not list(target.glob("unfinished.d/*/*"))


def test_a_lock_that_may_not_be_made_is_told_by_name(tmp_path):
    (tmp_path / "d" / ".writer.tmp").mkdir(parents=True)
    with pytest.raises(InputError, match=r"d/.writer.tmp: got 'Is a directory'; a lock that can be written"):
        write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 20}, 3, 8))
