import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ristune.data.dataset import load_split, load_table, open_dataset
from ristune.data.order import epoch_order
from ristune.data.source import Simulated
from ristune.data.stream import Stream
from ristune.data.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Drawing

ROWS = 23


@pytest.fixture(autouse=True)
def fresh_cache():
    load_split.cache_clear()
    load_table.cache_clear()


@pytest.fixture
def root(tmp_path):
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": ROWS, "val": 9}, 5, 8))
    return tmp_path / "d"


@pytest.fixture
def dataset(root):
    return open_dataset(str(root))


def stream(dataset, **changes):
    arguments = {"split": "train", "batch_size": 4, "seed": 0, "shuffle": True, "device": "cpu", **changes}
    return Stream(dataset, **arguments)


def ids(batches):
    return torch.cat([batch["sample_id"] for batch in batches]).tolist()


def reading(monkeypatch, dataset):
    read = []
    original = type(dataset.storage).read
    monkeypatch.setattr(
        type(dataset.storage), "read", lambda self, path: (read.append(path), original(self, path))[1]
    )
    return read


def test_a_split_is_what_the_simulator_drew(dataset):
    split = dataset.split("train")
    shard = Drawing().draw(8, np.random.default_rng(np.random.SeedSequence(5, spawn_key=(0, 1))))
    for column in COLUMNS:
        tensor = split[column.name]
        assert tensor.shape == (ROWS, *column.shape)
        np.testing.assert_array_equal(tensor[8:16].numpy(), shard[column.name], strict=True)


def test_dtypes_are_kept(dataset):
    dtypes = {name: tensor.dtype for name, tensor in next(stream(dataset).epoch(0)).items()}
    assert dtypes["channel"] == dtypes["gain"] == torch.float16
    assert dtypes["code"] == dtypes["bits"] == torch.uint8
    assert (dtypes["wave"], dtypes["power"]) == (torch.float32, torch.float64)
    assert (dtypes["index"], dtypes["sample_id"]) == (torch.int32, torch.int64)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 22, 23, 24, 100])
@pytest.mark.parametrize("limit", [None, 1, 7, 8, 9, 23])
def test_an_epoch_has_every_sample_once(dataset, batch_size, limit, shuffle):
    batches = stream(dataset, batch_size=batch_size, limit=limit, shuffle=shuffle)
    rows = limit or ROWS
    assert batches.rows == rows
    for epoch in range(2):
        found = list(batches.epoch(epoch))
        assert len(found) == len(batches) == -(-rows // batch_size)
        assert [len(batch["wave"]) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
        assert sorted(ids(found)) == sorted(dataset.split("train")["sample_id"][:rows].tolist())


def test_rows_of_a_batch_stay_together(dataset):
    split = dataset.split("train")
    place = {number: row for row, number in enumerate(split["sample_id"].tolist())}
    for batch in stream(dataset).epoch(3):
        rows = [place[number] for number in batch["sample_id"].tolist()]
        for name, tensor in batch.items():
            assert torch.equal(tensor, split[name][rows])


def test_the_order_is_that_of_dataset_seed_and_epoch(dataset):
    expected = dataset.split("train")["sample_id"][
        torch.from_numpy(epoch_order(dataset.dataset_id, 9, 2, ROWS))
    ]
    assert ids(stream(dataset, seed=9).epoch(2)) == expected.tolist()


def test_the_batch_size_does_not_change_the_order(dataset):
    assert len({tuple(ids(stream(dataset, batch_size=size).epoch(1))) for size in (1, 3, 50)}) == 1


def test_epochs_differ_when_shuffled_and_do_not_otherwise(dataset):
    shuffled, fixed = stream(dataset), stream(dataset, shuffle=False)
    assert ids(shuffled.epoch(0)) != ids(shuffled.epoch(1))
    assert ids(shuffled.epoch(0)) == ids(shuffled.epoch(0))
    assert ids(fixed.epoch(0)) == ids(fixed.epoch(1)) == dataset.split("train")["sample_id"].tolist()


@pytest.mark.parametrize("shuffle", [True, False])
def test_writing_into_a_batch_leaves_the_dataset_as_it_is(dataset, shuffle):
    before = dataset.split("train")["wave"].clone()
    for batch in stream(dataset, shuffle=shuffle, batch_size=ROWS).epoch(0):
        batch["wave"].zero_()
    assert torch.equal(dataset.split("train")["wave"], before)


def test_a_stream_can_be_of_some_columns(dataset):
    assert list(next(stream(dataset, columns=["power", "wave"]).epoch(0))) == ["power", "wave"]


def test_batches_are_on_the_device_asked_for(dataset):
    assert next(stream(dataset, device="meta").epoch(0))["wave"].device.type == "meta"


def test_a_split_is_decoded_once_for_each_process(root, dataset, monkeypatch):
    read = reading(monkeypatch, dataset)
    first = dataset.split("train")
    assert read == [f"train/0000{index}.parquet" for index in range(3)]
    again = open_dataset(str(root)).split("train")
    assert read[3:] == ["manifest.json", "manifest.sha256"]
    assert all(first[name].data_ptr() == again[name].data_ptr() for name in first)


def test_another_dataset_at_the_same_place_is_read_anew(root, dataset):
    before = dataset.split("train")["sample_id"]
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    write_dataset(str(root), Simulated(Drawing(), {"train": ROWS}, 6))
    assert not torch.equal(open_dataset(str(root)).split("train")["sample_id"], before)
    assert open_dataset(str(root)) != dataset


@pytest.mark.parametrize(("limit", "shards"), [(1, 1), (8, 1), (9, 2), (23, 3)])
def test_a_limit_reads_no_more_shards_than_it_needs(dataset, monkeypatch, limit, shards):
    read = reading(monkeypatch, dataset)
    assert len(dataset.split("train", limit=limit)["wave"]) == limit
    assert len(read) == shards


@pytest.mark.parametrize(("split", "limit"), [("train", 24), ("train", 0), ("train", -1), ("val", 10)])
def test_a_limit_beyond_the_split_is_refused_by_its_config_path(dataset, split, limit):
    rows = {"train": 23, "val": 9}[split]
    rule = (
        f"data.{split}_limit: got {limit}; split '{split}' has {rows} samples, so it is 1 to {rows}; lower it"
    )
    with pytest.raises(InputError, match=rule):
        stream(dataset, split=split, limit=limit)


def test_a_batch_size_below_one_is_refused(dataset):
    with pytest.raises(InputError, match="batch_size: got 0; a batch has at least one sample"):
        stream(dataset, batch_size=0)


def test_a_table_is_read_whole_and_once(dataset, monkeypatch):
    read = reading(monkeypatch, dataset)
    table = dataset.table("codebook")
    assert dataset.table("codebook")["phase"].data_ptr() == table["phase"].data_ptr()
    assert read == ["tables/codebook.parquet"]
    np.testing.assert_array_equal(table["phase"].numpy(), Drawing().tables()["codebook"][1]["phase"])
    assert table["size"].tolist() == [0, 1, 2]


def test_names_that_do_not_exist_are_refused_with_those_that_do(dataset):
    with pytest.raises(InputError, match="split: got 'test'; the splits are train, val"):
        dataset.split("test")
    with pytest.raises(InputError, match="column: got 'h'; the columns are wave, channel, code"):
        dataset.split("train", ["wave", "h"])
    with pytest.raises(InputError, match="table: got 'codes'; the tables are codebook"):
        dataset.table("codes")


def test_a_dataset_that_is_not_there_is_refused(tmp_path):
    rule = "data.uri: got '.*/no'; a dataset is a directory that holds manifest.json; correct the path"
    with pytest.raises(InputError, match=rule):
        open_dataset(str(tmp_path / "no"))


def test_a_manifest_of_another_program_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"short_name": "app"}')
    with pytest.raises(InputError, match=f"{tmp_path}/manifest.json: .*the key 'schema_version' is required"):
        open_dataset(str(tmp_path))


def test_a_manifest_that_was_altered_is_refused_by_its_pin(root):
    manifest = root / "manifest.json"
    text = manifest.read_text()
    assert '"seed":5' in text
    manifest.write_text(text.replace('"seed":5', '"seed":6'))
    with pytest.raises(InputError, match="manifest.sha256: got .*it must be the sha256 of manifest.json"):
        open_dataset(str(root))
    manifest.write_text(text)
    (root / "manifest.sha256").unlink()
    with pytest.raises(InputError, match="manifest.sha256: got 'No such file or directory'"):
        open_dataset(str(root))


def test_a_shard_that_is_missing_is_named(root, dataset):
    (root / "train/00001.parquet").unlink()
    with pytest.raises(InputError, match=f"{root}/train/00001.parquet: got 'No such file or directory'"):
        dataset.split("train")


def test_a_shard_that_was_altered_is_named_and_not_kept(root, dataset):
    path = root / "val/00000.parquet"
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-1])
    with pytest.raises(
        InputError, match=f"{path}: got '{len(data) - 1} bytes'; the manifest says {len(data)} bytes"
    ):
        dataset.split("val")
    data[100] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{path}: got .*the manifest says sha256"):
        dataset.split("val")
    data[100] ^= 4
    path.write_bytes(data)
    assert len(dataset.split("val")["wave"]) == 9


def test_a_stranger_can_write_a_dataset_with_the_documented_code(tmp_path, monkeypatch):
    document = Path(__file__).parents[2] / "docs/data-format.md"
    (code,) = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)
    found = open_dataset("my_dataset")
    assert found.split("val")["sample_id"].tolist() == list(range(100, 120))
    np.testing.assert_array_equal(found.split("val")["y"].numpy(), names["arrays"]["y"])
    assert found.dataset_id
