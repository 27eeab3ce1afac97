import pytest

from ristune.data.cache import NodeCache
from ristune.data.dataset import open_dataset
from ristune.data.places import Place
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.dataset.cache import main
from tests.data.drawing import Drawing


@pytest.fixture
def kept(tmp_path):
    """Two datasets in a cache: their residents by seed."""
    found = {}
    for seed in (1, 2):
        write_dataset(str(tmp_path / f"d{seed}"), Simulated(Drawing(), {"train": 40}, seed))
        cache = NodeCache((Place(tmp_path / "c", 10**9, "data.cache_disk_gb"),), print)
        dataset = open_dataset(str(tmp_path / f"d{seed}"), cache)
        found[seed] = dataset, dataset.resident("train", 40)
    return found


def run(tmp_path, capsys, *words):
    status = main([*words, f"data.cache={tmp_path / 'c'}"])
    return status, capsys.readouterr()


def test_what_is_kept_is_listed(kept, tmp_path, capsys):
    kept[1][1].held.release()
    status, said = run(tmp_path, capsys, "list")
    assert status == 0
    assert f"{tmp_path / 'c'}: 2 datasets, " in said.out
    rows = {line.split()[0]: line for line in said.out.splitlines() if "/d" in line}
    for seed, busy in ((1, "no"), (2, "yes")):
        line = rows[kept[seed][0].dataset_id[:12]]
        assert f" {busy} " in line
        assert line.rstrip().endswith(f"d{seed}")


def test_what_is_unused_is_cleared_and_the_rest_stays(kept, tmp_path, capsys):
    kept[1][1].held.release()
    status, said = run(tmp_path, capsys, "clear")
    assert status == 0
    assert f"cleared {kept[1][0].dataset_id[:12]}" in said.out
    assert f"kept {kept[2][0].dataset_id[:12]}" in said.out
    assert len(list((tmp_path / "c").glob("*/entry.json"))) == 1


def test_one_dataset_is_cleared_by_the_start_of_its_id(kept, tmp_path, capsys):
    for _, resident in kept.values():
        resident.held.release()
    assert run(tmp_path, capsys, "clear", kept[2][0].dataset_id[:6])[0] == 0
    (left,) = (tmp_path / "c").glob("*/entry.json")
    assert kept[1][0].dataset_id in left.read_text()


def test_what_is_asked_for_and_in_use_is_a_failure(kept, tmp_path, capsys):
    assert run(tmp_path, capsys, "clear", kept[2][0].dataset_id)[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "cache: got ''; it must be list, or clear and ids"),
        (("list", "x"), "cache: got 'list x'; it must be list, or clear"),
        (
            ("clear", "ffffffff"),
            "ID: got 'ffffffff'; it must be the first 4 digits or more of an id; there are",
        ),
        (("clear", ""), "ID: got ''; it must be the first 4 digits"),
    ],
)
def test_what_cannot_be_is_refused(kept, tmp_path, capsys, words, message):
    status, said = run(tmp_path, capsys, *words)
    assert status == 2
    assert message in said.err


def test_an_empty_cache_says_so(tmp_path, capsys):
    assert run(tmp_path, capsys, "list")[1].out.startswith(f"{tmp_path / 'c'}: 0 datasets, 0 B of 200 GB")
    assert run(tmp_path, capsys, "clear")[1].out == "nothing is kept\n"
