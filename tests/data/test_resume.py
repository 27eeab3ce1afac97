import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ristune.data.dataset import open_dataset
from ristune.data.writing.source import Part, Simulated
from ristune.data.writing.writer import serial, write_dataset
from ristune.data.writing.written import write_part
from ristune.errors import InputError
from tests.data.drawing import Drawing, files

ROOT = Path(__file__).parents[2]
SIZES = {"train": 20, "val": 6, "test": 3}
# Five shards: three of train, one of val, one of test.
SOURCE = Simulated(Drawing(), SIZES, 3, 8)


class Interrupted(Drawing):
    """Stops at a draw, counted from 0."""

    def __init__(self, draws, error):
        super().__init__()
        self.limit, self.error = draws, error

    def draw(self, rows, rng):
        if self.draws == self.limit:
            raise self.error
        return super().draw(rows, rng)


def source(simulator, seed=3, **change):
    return Simulated(simulator, SIZES, seed, **{"shard_rows": 8, **change})


def interrupt(target, draws, error=KeyboardInterrupt):
    with pytest.raises(error):
        write_dataset(str(target), source(Interrupted(draws, error)))


@pytest.fixture
def whole(tmp_path):
    """The files of the dataset that was never interrupted."""
    write_dataset(str(tmp_path / "whole"), SOURCE)
    return files(tmp_path / "whole")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("draws", range(5))
def test_an_interrupted_dataset_goes_on_where_it_stopped(tmp_path, whole, error, draws):
    target = tmp_path / "d"
    interrupt(target, draws, error)
    rule = "the dataset was never finished.*; write it again to the same place, or"
    with pytest.raises(InputError, match=rule):
        open_dataset(str(target))
    simulator, calls = Drawing(), []
    write_dataset(str(target), source(simulator), progress=calls.append)
    assert simulator.draws == 5 - draws
    assert calls == [8, 8, 4, 6, 3][draws:]
    assert files(target) == whole


def test_it_may_stop_any_number_of_times(tmp_path, whole):
    for _ in range(4):
        interrupt(tmp_path / "d", 1)
    simulator = Drawing()
    write_dataset(str(tmp_path / "d"), source(simulator))
    assert simulator.draws == 1
    assert files(tmp_path / "d") == whole


@pytest.mark.parametrize("damage", ["removed", "truncated", "altered"])
def test_a_finished_shard_that_is_not_whole_is_written_again(tmp_path, whole, damage):
    target = tmp_path / "d"
    interrupt(target, 4)
    shard = target / "train" / "00001.parquet"
    if damage == "removed":
        shard.unlink()
    elif damage == "truncated":
        os.truncate(shard, 100)
    else:
        shard.write_bytes(shard.read_bytes()[:-1] + b"X")
    simulator = Drawing()
    write_dataset(str(target), source(simulator))
    assert simulator.draws == 2
    assert files(target) == whole


def test_a_shard_without_its_record_counts_as_not_finished(tmp_path, whole):
    target = tmp_path / "d"
    interrupt(target, 4)
    (target / "unfinished.d" / "train" / "00001.json").unlink()
    simulator = Drawing()
    write_dataset(str(target), source(simulator))
    assert simulator.draws == 2
    assert files(target) == whole


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (source(Drawing(), seed=4), "generator.seed: 3 there, 4 asked"),
        (source(Drawing(scale=2.0)), r"generator.parameters.scale: 1\.0 there, 2\.0 asked"),
        (source(Drawing(), shard_rows=9), "sizes or shards"),
        (Simulated(Drawing(), {**SIZES, "test": 4}, 3, 8), "sizes or shards"),
    ],
)
def test_finished_shards_of_another_dataset_are_not_overwritten(tmp_path, other, difference):
    interrupt(tmp_path / "d", 2)
    before = files(tmp_path / "d")
    rule = f"2 shards of a dataset of other values are there.*{difference}.*finish it with the same values"
    with pytest.raises(InputError, match=rule):
        write_dataset(str(tmp_path / "d"), other)
    assert files(tmp_path / "d") == before
    assert other.simulator.draws == 0


def test_another_release_of_pyarrow_writes_another_dataset(tmp_path, monkeypatch):
    interrupt(tmp_path / "d", 2)
    monkeypatch.setattr("pyarrow.__version__", "99.0")
    with pytest.raises(InputError, match="writer.pyarrow: '.*' there, '99.0' asked"):
        write_dataset(str(tmp_path / "d"), SOURCE)


def test_where_no_shard_is_finished_another_dataset_may_be_written(tmp_path):
    target = tmp_path / "d"
    interrupt(target, 0)
    (target / "train").mkdir()
    for name in ("train/00007.parquet", "tables/old.parquet", "manifest.sha256"):
        (target / name).write_bytes(b"never recorded")
    other = Simulated(Interrupted(0, KeyboardInterrupt), {"train": 3}, 1, 8)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(str(target), other)
    assert sorted(files(target)) == ["tables/codebook.parquet", "unfinished"]
    write_dataset(str(target), Simulated(Drawing(), {"train": 3}, 1, 8))
    assert sorted(files(target)) == [
        "manifest.json",
        "manifest.sha256",
        "tables/codebook.parquet",
        "train/00000.parquet",
    ]
    assert open_dataset(str(target)).rows("train") == 3


@pytest.mark.parametrize(
    "mark", [b"", b"todo: tidy up", b"export", b'{"plan":1,"token":"0"}', b'{"done":[]}']
)
def test_a_file_called_unfinished_that_no_writer_left_protects_what_lies_beside_it(tmp_path, mark):
    for name, data in {"unfinished": mark, "train/photo.jpg": b"precious"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    before = files(tmp_path)
    with pytest.raises(InputError, match="'unfinished' there is not what a writer of datasets leaves"):
        write_dataset(str(tmp_path), SOURCE)
    assert files(tmp_path) == before


def test_a_writer_killed_in_its_last_step_is_finished_by_the_same_call(tmp_path, whole):
    target = tmp_path / "d"
    interrupt(target, 4)
    unfinished = {name: data for name, data in files(target).items() if name.startswith("unfinished")}
    write_dataset(str(target), SOURCE)
    for name in list(unfinished)[1:]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(unfinished[name])
    (target / "unfinished").write_bytes(unfinished["unfinished"])
    with pytest.raises(InputError, match="there is a dataset already"):
        write_dataset(str(target), source(Drawing(), seed=4))
    simulator = Drawing()
    write_dataset(str(target), source(simulator))
    assert simulator.draws == 0
    assert files(target) == whole


def test_ids_of_finished_shards_are_held_against_the_rest(tmp_path):
    class Counting(Interrupted):
        def draw(self, rows, rng):
            return {**super().draw(rows, rng), "sample_id": np.arange(rows)}

    with pytest.raises(KeyboardInterrupt):
        write_dataset(str(tmp_path / "d"), source(Counting(1, KeyboardInterrupt)))
    with pytest.raises(InputError, match="8 ids occur twice within split 'train'"):
        write_dataset(str(tmp_path / "d"), source(Counting(None, None)))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda record: record.pop("moments"), "the key 'moments' is required"),
        (lambda record: record["shard"].update(rows=9), "the rows of a shard are the sum"),
        (
            lambda record: record["shard"].update(path="val/00000.parquet"),
            "the shard of this record is train",
        ),
        (lambda record: record["moments"]["power"].update(count=0), "moments.power.count: got 0"),
    ],
)
def test_a_record_that_was_altered_is_refused(tmp_path, change, rule):
    interrupt(tmp_path / "d", 2)
    path = tmp_path / "d" / "unfinished.d" / "train" / "00000.json"
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=rule):
        write_dataset(str(tmp_path / "d"), SOURCE)


def test_the_order_in_which_shards_are_written_does_not_matter(tmp_path, whole):
    def backwards(function, parts, progress):
        yield from serial(function, parts[::-1], progress)

    write_dataset(str(tmp_path / "d"), SOURCE, backwards)
    assert files(tmp_path / "d") == whole


def test_a_source_that_gives_another_number_of_rows_is_refused(tmp_path):
    class Short(Simulated):
        def arrays(self, part, progress=None):
            return super().arrays(Part(part.split, part.index, part.rows - 1), progress)

    with pytest.raises(InputError, match="train/00000.parquet: rows: got 7; 8 are wanted"):
        write_dataset(str(tmp_path / "d"), Short(Drawing(), SIZES, 3, 8))


def test_a_process_that_does_not_see_the_dataset_writes_nothing(tmp_path):
    rule = "must be seen by every process and machine that writes to it; choose a folder"
    with pytest.raises(InputError, match=rule):
        write_part(str(tmp_path / "elsewhere"), SOURCE, "0", Part("train", 0, 8), None)
    assert not (tmp_path / "elsewhere").exists()


SLOW = """
import sys, time
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from tests.data.drawing import Drawing

class Slow(Drawing):
    def draw(self, rows, rng):
        time.sleep(float(sys.argv[2]))
        return super().draw(rows, rng)

write_dataset(sys.argv[1], Simulated(Slow(), {"train": 20, "val": 6, "test": 3}, 3, 8))
"""


FULL = """
import resource, signal, sys
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import Drawing

# The system lets no file grow beyond this: a shard does not fit, all before it does.
resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))
try:
    write_dataset(sys.argv[1], Simulated(Drawing(), {"train": 300}, 3, 200))
except InputError as error:
    print(error)
"""


def test_a_shard_that_finds_no_space_is_told_and_leaves_nothing(tmp_path):
    target = tmp_path / "d"
    command = [sys.executable, "-c", FULL, str(target)]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    rule = "d/train/00000.parquet: got 'File too large'; a file that can be written is required; free some"
    assert rule in run.stdout and run.stderr == ""
    assert sorted(files(target)) == ["tables/codebook.parquet", "unfinished"]
    write_dataset(str(target), Simulated(Drawing(), {"train": 300}, 3, 200))
    assert open_dataset(str(target)).rows("train") == 300


def test_a_killed_process_is_continued_by_the_next_and_leaves_nothing(tmp_path, whole):
    target = tmp_path / "d"
    command = [sys.executable, "-c", SLOW, str(target)]
    with subprocess.Popen([*command, "0.5"], cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while not (target / "unfinished.d/train/00001.json").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    # What a process that is killed while it writes leaves behind.
    (target / "train" / ".00002.parquet.0123.tmp").write_bytes(b"half")
    assert not (target / "manifest.json").exists()
    kept = (target / "train/00001.parquet").stat().st_mtime_ns
    subprocess.run([*command, "0"], cwd=ROOT, check=True)
    assert (target / "train/00001.parquet").stat().st_mtime_ns == kept
    assert files(target) == whole
