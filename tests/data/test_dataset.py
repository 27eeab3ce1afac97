import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ristune.data.cache import NodeCache
from ristune.data.dataset import open_dataset
from ristune.data.places import Place
from ristune.data.verify import verify
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Drawing

ROWS = 23


@pytest.fixture
def root(tmp_path):
    write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": ROWS, "val": 9}, 5, 8))
    return tmp_path / "d"


@pytest.fixture(params=["own memory", "node cache"])
def dataset(request, root, tmp_path):
    cache = NodeCache((Place(tmp_path / "cache", 10**9, "data.cache_disk_gb"),), lambda line: None)
    return open_dataset(str(root), cache if request.param == "node cache" else None)


def test_a_split_is_what_the_simulator_drew(dataset):
    split = dataset.split("train")
    shard = Drawing().draw(8, np.random.default_rng(np.random.SeedSequence(5, spawn_key=(0, 1))))
    for column in COLUMNS:
        tensor = split[column.name]
        assert tensor.shape == (ROWS, *column.shape)
        np.testing.assert_array_equal(tensor[8:16].numpy(), shard[column.name], strict=True)


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
    path.write_bytes(data[:100])
    with pytest.raises(InputError, match="val/00000.parquet"):
        dataset.split("val")
    data[100] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match="val/00000.parquet.*(sha256|row group 0, column wave)"):
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
    assert sorted(found.split("val")["sample_id"].tolist()) == list(range(100, 120))
    np.testing.assert_array_equal(found.split("val")["y"].numpy(), names["arrays"]["y"])
    assert list(verify(found.storage)) == []


@pytest.mark.parametrize("limit", [None, 1, 7, 8, 9, 23])
@pytest.mark.parametrize("columns", [["power", "wave"], ["code"], None])
def test_columns_and_first_samples_can_be_asked_for(root, dataset, columns, limit):
    everything = open_dataset(str(root)).split("train")
    found = dataset.split("train", columns, limit)
    assert list(found) == (columns or [column.name for column in COLUMNS])
    for name, tensor in found.items():
        assert tensor.is_contiguous()
        assert torch.equal(tensor, everything[name][:limit])


def test_columns_alone_are_read_by_their_byte_ranges(root, monkeypatch):
    dataset = open_dataset(str(root))
    shard = dataset.manifest.splits["train"].shards[0]
    data = bytearray((root / shard.path).read_bytes())
    # Damage elsewhere is not even read.
    data[shard.row_groups[0].columns["wave"].offset + 40] ^= 1
    (root / shard.path).write_bytes(data)
    assert len(dataset.split("train", ["power"])["power"]) == ROWS
    with pytest.raises(
        InputError, match="train/00000.parquet: got 'row group 0, column wave'; the bytes are"
    ):
        dataset.split("train", ["power", "wave"])


def test_what_it_takes_in_memory_is_known_before_it_is_read(root, tmp_path):
    cache = NodeCache((Place(tmp_path / "cache", 10**9, "data.cache_disk_gb"),), lambda line: None)
    dataset = open_dataset(str(root), cache)
    dataset.split("train"), dataset.split("val"), dataset.table("codebook")
    rows = (tmp_path / "cache").glob("*/*.rows")
    assert dataset.decoded_bytes == sum(path.stat().st_size for path in rows)


def test_a_table_is_read_whole(dataset):
    table = dataset.table("codebook")
    np.testing.assert_array_equal(table["phase"].numpy(), Drawing().tables()["codebook"][1]["phase"])
    assert table["size"].tolist() == [0, 1, 2]


def test_another_dataset_at_the_same_place_is_read_anew(root, dataset):
    before = dataset.split("train")["sample_id"].clone()
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    write_dataset(str(root), Simulated(Drawing(), {"train": ROWS}, 6))
    assert not torch.equal(open_dataset(str(root), dataset.cache).split("train")["sample_id"], before)


@pytest.mark.parametrize(("split", "limit"), [("train", 24), ("train", 0), ("train", -1), ("val", 10)])
def test_a_limit_beyond_the_split_is_refused_by_its_config_path(dataset, split, limit):
    rows = {"train": 23, "val": 9}[split]
    rule = (
        f"data.{split}_limit: got {limit}; split '{split}' has {rows} samples, so it is 1 to {rows}; lower it"
    )
    with pytest.raises(InputError, match=rule):
        dataset.split(split, limit=limit)
