import pytest

from ristune.cluster.live import look
from ristune.config import compose
from ristune.doctor.__main__ import main
from ristune.doctor.nodes import LIVE_PURPOSES
from ristune.storage.access import open_storage
from tests.cluster.nodes import stopped, two_nodes
from tests.cluster.plant import AWS, examine

pytestmark = pytest.mark.ray
FILE = AWS


@pytest.fixture(scope="module")
def nodes():
    with two_nodes() as cluster:
        yield cluster


def live(capsys, nodes, *more):
    return examine(capsys, FILE, "--live", "--address", nodes.address, *more)


def test_sound_nodes_pass_every_check_and_nothing_is_left_behind(nodes, tmp_path, capsys, toy_dataset):
    shared = tmp_path / "runs"
    status, rows = live(capsys, nodes, f"output={shared}", f"data.uri={toy_dataset}")
    assert status == 0 and [row.check for row in rows] == list(LIVE_PURPOSES)
    assert {row.verdict for row in rows} == {"pass"}
    assert "2 nodes" in rows[0].text and str(shared) in rows[4].text
    assert not shared.exists() or list(shared.iterdir()) == []


def test_without_an_output_none_is_tried(nodes, capsys):
    status, rows = live(capsys, nodes, "--only", "storage", "--only", "clock")
    assert status == 0 and [(row.check, row.verdict) for row in rows] == [
        ("clock", "pass"),
        ("storage", "skip"),
    ]


def test_an_output_that_cannot_be_written_is_named_by_every_node(nodes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status, rows = live(capsys, nodes, f"output={tmp_path / 'file'}", "--only", "storage")
    assert status == 1 and [(row.check, row.verdict) for row in rows] == [("storage", "FAIL")] * 2


def test_a_cache_that_is_too_small_is_named(nodes, capsys, toy_dataset):
    more = (f"data.uri={toy_dataset}", "data.cache_disk_gb=0.000001", "data.cache_memory_share=0")
    status, rows = live(capsys, nodes, *more, "--only", "cache-space")
    assert status == 1 and "the dataset takes" in rows[0].text


def test_a_node_that_does_not_answer_is_named_in_time(nodes, tmp_path):
    config = compose([], [])
    node = nodes.list_all_nodes()[1]
    with stopped(node):
        found = look(nodes.address, open_storage(str(tmp_path / "runs")), config.data, limit=25)
    faults = {each.head: each.fault for each in found}
    # Ray itself may give it up first, and says so in its own words.
    assert faults[True] == "" and faults[False].startswith("no answer on its software")
    assert next(each for each in found if each.head).store.shared


def test_an_address_where_nobody_answers_is_refused(capsys):
    assert main(["--cluster", str(FILE), "--live", "--address", "127.0.0.1:9"]) == 2
    assert "--address: got '127.0.0.1:9'; no cluster answers there" in capsys.readouterr().err
