import gc
import itertools
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ristune.data.cache import NodeCache
from ristune.data.columns import Column
from ristune.data.dataset import Dataset, open_dataset
from ristune.data.device import kept_on_device
from ristune.data.gather import Gatherer, RowWindow
from ristune.data.layout import WIDE, layout, write_columns
from ristune.data.places import Place
from ristune.data.shards import encode
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Wide
from tests.data.streaming import MODES, ROWS, ids, on_device, stream, written


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return written(tmp_path_factory.mktemp("stream"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.sampled_from([1, 2, 5, 7, 31, 82, 83, 84, 200]),
    window=st.integers(1, 20),
    limit=st.one_of(st.none(), st.integers(1, ROWS)),
    fraction=st.sampled_from([1.0, 0.5, 0.31, 0.01]),
    resumed=st.floats(0, 1),
    prefetch=st.integers(0, 3),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
    where=st.sampled_from([{}, {"index": [1, None]}, {"power": [-0.5, 1.0], "index": [None, 1]}]),
)
def test_every_sample_comes_once_in_the_same_order_whatever_the_mode(
    dataset, batch_size, window, limit, fraction, resumed, prefetch, epoch, shuffle, where
):
    shared = dict(batch_size=batch_size, window=window, limit=limit, fraction=fraction, shuffle=shuffle)
    everything = dataset.split("train")
    rows = int(np.ceil((limit or ROWS) * fraction))
    kept = torch.ones(rows, dtype=torch.bool)
    for name, (low, high) in where.items():
        values = everything[name][:rows]
        kept &= (values >= (-1e9 if low is None else low)) & (values <= (1e9 if high is None else high))
    if not kept.any():
        with pytest.raises(InputError, match=f"none of the {rows} samples of 'train' lies in these bounds"):
            stream(dataset, where=where, **shared)
        return
    expected = None
    for name, opened in MODES.items():
        batches = opened(dataset, where=where, prefetch=prefetch, **shared)
        found = list(batches.epoch(epoch))
        assert len(found) == len(batches) == -(-batches.rows // batch_size), name
        assert [len(batch["wave"]) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
        if expected is None:
            expected = ids(found)
            assert sorted(expected) == sorted(everything["sample_id"][:rows][kept].tolist())
            assert shuffle or expected == everything["sample_id"][:rows][kept].tolist()
        assert ids(found) == expected, name
        start = int(resumed * len(batches))
        assert ids(batches.epoch(epoch, start)) == expected[start * batch_size :], name


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_a_batch_stay_together_and_keep_their_types(dataset, mode):
    split = dataset.split("train")
    place = {number: row for row, number in enumerate(split["sample_id"].tolist())}
    for batch in MODES[mode](dataset).epoch(3):
        assert list(batch) == [column.name for column in COLUMNS]
        rows = [place[number] for number in batch["sample_id"].tolist()]
        for name, tensor in batch.items():
            assert tensor.is_contiguous()
            assert tensor.dtype == split[name].dtype
            assert torch.equal(tensor, split[name][rows])


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_can_be_of_some_columns(dataset, mode):
    batches = MODES[mode](dataset, columns=["power", "wave"])
    assert list(next(batches.epoch(0))) == ["power", "wave"]
    whole = torch.cat([batch["power"] for batch in stream(dataset).epoch(0)])
    assert torch.equal(torch.cat([batch["power"] for batch in batches.epoch(0)]), whole)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_the_callers_own(dataset, mode):
    batches = MODES[mode](dataset, prefetch=2)
    kept = list(batches.epoch(0))
    copies = [{name: tensor.clone() for name, tensor in batch.items()} for batch in kept]
    # Later epochs take their memory from the same pool, and what is written stays in the batch.
    for batch in itertools.chain(batches.epoch(1), batches.epoch(0)):
        for tensor in batch.values():
            tensor.zero_()
    for batch, copy in zip(kept, copies, strict=True):
        assert all(torch.equal(batch[name], copy[name]) for name in copy)
    assert ids(batches.epoch(0)) == ids(kept)


def test_memory_of_batches_that_are_gone_is_used_again(dataset):
    addresses = {batch["wave"].data_ptr() for batch in stream(dataset, batch_size=2, prefetch=1).epoch(0)}
    assert len(addresses) <= 5


@pytest.mark.parametrize("size", [1, 4])
def test_who_keeps_a_narrow_column_does_not_keep_the_wide_ones(size):
    wide = [Column("wave", "<f4", (WIDE,), "1", "input"), Column("sample_id", "<i8", (), "1", "id")]
    rng = np.random.default_rng(0)
    arrays = {"wave": rng.random((40, WIDE), np.float32), "sample_id": np.arange(40)}
    rows = np.empty((40, layout(wide).width), np.uint8)
    write_columns(rows, layout(wide), arrays)
    gatherer = Gatherer(layout(wide), ["wave", "sample_id"], size)
    pool = gatherer.pool(kept=2, pinned=False)
    window, kept, addresses = RowWindow(rows, np.arange(40)), [], set()
    for first in range(0, 40, size):
        samples = gatherer.gather(pool, [(window, first, first + size)], alone=first % 8 == 0)
        batch = gatherer.columns(samples)
        del samples
        addresses.add(batch["wave"].data_ptr())
        kept.append(batch["sample_id"])
    assert torch.cat(kept).tolist() == list(range(40))
    assert len(addresses) <= 2


@pytest.mark.parametrize("mode", MODES)
def test_an_epoch_left_early_leaves_no_thread(dataset, mode):
    before = threading.active_count()
    batches = MODES[mode](dataset, prefetch=3).epoch(0)
    next(batches)
    batches.close()
    del batches
    gc.collect()
    assert threading.active_count() == before


def test_epochs_differ_when_shuffled_and_do_not_otherwise(dataset):
    shuffled, fixed = stream(dataset), stream(dataset, shuffle=False)
    assert ids(shuffled.epoch(0)) != ids(shuffled.epoch(1))
    assert ids(shuffled.epoch(0)) == ids(shuffled.epoch(0))
    assert ids(fixed.epoch(0)) == ids(fixed.epoch(1)) == dataset.split("train")["sample_id"].tolist()


def test_a_narrowed_stream_shares_what_was_read(dataset):
    whole = stream(dataset)
    part = whole.narrowed({"index": [2, 2]})
    assert part._source is whole._source
    values = torch.cat([batch["index"] for batch in part.epoch(0)])
    assert len(values) == part.rows < whole.rows
    assert set(values.tolist()) == {2}
    assert part.narrowed({}).rows == whole.rows == ROWS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0; a batch has at least one sample"),
        ({"mode": "fast"}, "data.mode: got 'fast'; it must be one of auto, cached, gpu, windowed"),
        (
            {"mode": "gpu"},
            "data.mode: got 'gpu'; samples can lie in the memory of a GPU only, and this trial",
        ),
        ({"where": {"wave": [0, 1]}}, "data.filter.wave: got 'wave'; only a scalar column can be filtered"),
        ({"where": {"snr": [0, 1]}}, "data.filter.snr: got 'snr'; only a scalar column can be filtered by"),
        ({"where": {"index": [float("nan"), None]}}, r"data.filter.index: got \[nan, None\]; it must be"),
        ({"fraction": 0.0}, "data.fraction"),
        ({"where": {"index": [2, 1]}}, r"data.filter.index: got \[2, 1\]; it must be \[lowest, highest\]"),
        ({"where": {"index": 1}}, r"data.filter.index: got 1; it must be \[lowest, highest\]"),
        ({"where": {"index": [7, 9]}}, "none of the 83 samples of 'train' lies in these bounds"),
        ({"limit": 84}, "data.train_limit: got 84; split 'train' has 83 samples, so it is 1 to 83"),
    ],
)
def test_what_cannot_be_is_refused(dataset, changes, message):
    with pytest.raises(InputError, match=message):
        stream(dataset, **changes)


def test_an_altered_row_group_is_named_when_it_is_reached(dataset, tmp_path):
    folder = tmp_path / "d"
    shutil.copytree(dataset.uri, folder)
    copy = open_dataset(str(folder))
    shard = copy.manifest.splits["train"].shards[1]
    path = folder / shard.path
    data = bytearray(path.read_bytes())
    data[shard.row_groups[2].columns["code"].offset + 30] ^= 8
    path.write_bytes(data)
    with pytest.raises(
        InputError, match="train/00001.parquet: got 'row group 2, column code'; the bytes are not"
    ):
        list(stream(copy, mode="windowed").epoch(0))


def test_a_batch_beyond_the_split_takes_no_more_memory_than_the_split(dataset):
    (batch,) = stream(dataset, batch_size=10**12).epoch(0)
    assert len(batch["wave"]) == ROWS


@pytest.mark.parametrize(
    ("fraction", "limit", "rows"), [(0.07, 50, 4), (0.28, 25, 7), (1e-9, 50, 1), (1, 7, 7)]
)
def test_a_fraction_is_rounded_up_once(dataset, fraction, limit, rows):
    assert stream(dataset, fraction=fraction, limit=limit).rows == rows


def test_batches_before_the_first_are_refused(dataset):
    with pytest.raises(InputError, match="start: got -1; batches are counted from 0"):
        list(stream(dataset).epoch(0, start=-1))


def test_windows_leave_no_file_open(dataset):
    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()
    before = open_files()
    for _ in range(3):
        list(stream(dataset, mode="windowed").epoch(0))
        gc.collect()
    assert open_files() == before


def test_samples_on_a_device_are_kept_for_the_next_trial(dataset):
    first = on_device(dataset)._source._samples
    assert on_device(open_dataset(dataset.uri, dataset.cache))._source._samples.data_ptr() == first.data_ptr()
    assert kept_on_device(dataset, "train", torch.device("cpu")) == first.nbytes
    part = on_device(dataset, limit=10)._source._samples
    assert part.nbytes < first.nbytes
    assert kept_on_device(dataset, "train", torch.device("cpu")) == part.nbytes


@pytest.mark.parametrize("limit", [41, 38, 17, 5])
@pytest.mark.parametrize("columns", [None, ["last"], ["sample_id", "first"], ["power", "sample_id"]])
def test_wide_columns_are_the_same_in_every_mode(tmp_path, monkeypatch, columns, limit):
    monkeypatch.setattr("ristune.data.writing.written.encode", lambda *a: encode(*a, row_group_bytes=9000))
    write_dataset(str(tmp_path / "d"), Simulated(Wide(), {"train": 41}, 5, 17))
    cache = NodeCache((Place(tmp_path / "cache", 10**9, "data.cache_disk_gb"),), lambda line: None)
    found = open_dataset(str(tmp_path / "d"), cache)
    split = Dataset(found.storage, found.manifest).split("train", limit=limit)
    place = {number: row for row, number in enumerate(split["sample_id"].tolist())}
    for name, opened in MODES.items():
        order = [place[number] for number in ids(opened(found, limit=limit).epoch(2))]
        batches = list(opened(found, limit=limit, columns=columns).epoch(2))
        assert list(batches[0]) == (columns or [column.name for column in Wide.columns])
        for column in batches[0]:
            values = torch.cat([batch[column] for batch in batches])
            assert torch.equal(values, split[column][order]), (name, column)
            assert all(batch[column][0].is_contiguous() for batch in batches)


@pytest.mark.parametrize("width", [1, 8, 1016, 1017, 1020, 1023, 1024, 1025])
@pytest.mark.parametrize("mode", ["cached", "windowed"])
def test_a_column_of_any_width_may_be_alone(tmp_path, width, mode):
    column = Column("code", "|u1", (width,), "1", "input")

    class Alone:
        name, version = "alone", "1"
        columns = (column, Column("sample_id", "<i8", (), "1", "id"))

        def parameters(self):
            return {}

        def tables(self):
            return {"book": ((column,), {"code": np.arange(3 * width).reshape(3, width).astype("|u1")})}

        def draw(self, rows, rng):
            return {
                "code": rng.integers(0, 256, (rows, width)).astype("|u1"),
                "sample_id": rng.integers(0, 2**62, rows),
            }

    write_dataset(str(tmp_path / "d"), Simulated(Alone(), {"train": 20}, 0))
    cache = NodeCache((Place(tmp_path / "c", 10**9, "data.cache_disk_gb"),), lambda line: None)
    for found in (open_dataset(str(tmp_path / "d"), cache), open_dataset(str(tmp_path / "d"))):
        assert found.table("book")["code"].numpy().tolist() == Alone().tables()["book"][1]["code"].tolist()
        split = found.split("train")
        (batch,) = stream(found, mode=mode, columns=["code"], batch_size=20, shuffle=False).epoch(0)
        assert torch.equal(batch["code"], split["code"])
        assert split["code"].float().std() > 0
