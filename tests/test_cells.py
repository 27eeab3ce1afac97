"""Samples drawn cell by cell, and the command that measures on them."""

import json

import pytest
import torch

from ristune import evaluate, simulate, train
from ristune.cells import Cell, parse_cells, title
from ristune.config import build, compose
from ristune.errors import InputError

SMALL = ("task.grid=[4,7,11]", "task.network={width: 8, blocks: 1, stages: 2}", "tracking.mode=disabled")


def test_every_combination_of_the_values():
    cells = parse_cells(["snr=0,10", "k=1,2,3"])
    assert len(cells) == 6 and cells[1] == {"snr": 0.0, "k": 2.0}
    assert title(cells[5]) == "snr 10, k 3"


@pytest.mark.parametrize("text", ["snr", "snr=", "=3", "snr=a", "snr=1,,2", "snr=nan"])
def test_a_cell_that_is_no_name_with_numbers_is_refused(text):
    with pytest.raises(InputError, match="it must be NAME=NUMBER,NUMBER"):
        parse_cells([text])


def test_a_name_given_twice_is_refused():
    with pytest.raises(InputError, match="snr must be given once"):
        parse_cells(["snr=1", "snr=2"])


class Tables:
    """What a cell needs of a dataset."""

    uri = "drawn"

    def __init__(self, simulator):
        self._tables = simulator.tables()

    def table(self, name):
        return {key: torch.from_numpy(value) for key, value in self._tables[name][1].items()}


class Knows:
    def check_cell(self, parameters):
        pass

    def cell_values(self, values):
        return {"channel.snr_db": [values["snr"]] * 2, "scene.num_sources": [2, 2]}

    def evaluate_cells(self, cells, predict, scenes):
        raise AssertionError


def test_samples_are_of_their_cell_and_the_same_each_time():
    config = compose(["training.batch_size=16"])
    dataset = Tables(build(config.simulator))
    cells = [Cell(config, Knows(), {"snr": snr}, dataset, 40, torch.device("cpu")) for snr in (3.0, -3.0)]
    batches = list(cells[0])
    assert [len(batch["y"]) for batch in batches] == [16, 16, 8]
    assert all((batch["snr_db"] == 3).all() and (batch["num_sources"] == 2).all() for batch in batches)
    assert torch.equal(next(iter(cells[0]))["y"], batches[0]["y"])
    assert not torch.equal(next(iter(cells[1]))["azimuth"], batches[0]["azimuth"])


def test_the_order_of_names_does_not_matter():
    config = compose(["training.batch_size=16"])
    dataset = Tables(build(config.simulator))
    one, other = (
        Cell(config, Knows(), values, dataset, 4, torch.device("cpu"))
        for values in ({"snr": 3.0, "k": 2.0}, {"k": 2.0, "snr": 3.0})
    )
    assert torch.equal(next(iter(one))["y"], next(iter(other))["y"])


@pytest.mark.parametrize(
    ("trained", "asked"),
    [
        (["simulator.codes.bits=1"], []),
        (["simulator.codes.dropout=0.3"], []),
        ([], ["simulator.codes.dropout=0.3"]),
    ],
)
def test_a_simulator_of_other_codes_is_refused(trained, asked):
    dataset = Tables(build(compose(trained).simulator))
    with pytest.raises(InputError, match="its codebooks must be those of drawn"):
        Cell(compose(asked), Knows(), {"snr": 3.0}, dataset, 4, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    data = folder / "data"
    assert simulate.main(["--out", str(data), "--train", "64", "--val", "32", "--test", "32"]) == 0
    run = folder / "run"
    assert train.main([*SMALL, f"data.uri={data}", "training.epochs=1", "--out", str(run)]) == 0
    return run / "best"


def test_a_checkpoint_is_measured_cell_by_cell_with_a_report(trained, tmp_path, capsys):
    out, report = tmp_path / "tables.json", tmp_path / "report"
    command = ["--checkpoint", str(trained), "--scenes", "6", "--out", str(out), "--report", str(report)]
    assert evaluate.main([*command, "--cells", "snr=0,20", "k=1,2", "simulator.channel.kappa=[3,3]"]) == 0
    tables = json.loads(out.read_text())
    f1 = next(rows for name, rows in tables.items() if name.startswith("F1 at"))
    assert list(f1[0]) == ["estimator", "snr 0, k 1", "snr 0, k 2", "snr 20, k 1", "snr 20, k 2"]
    page = (report / "report.html").read_text()
    assert "--cells snr=0,20 k=1,2" in page and page.count("data:image/png") == 5
    assert "report written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["noise=1"], "it must be one of snr, k"),
        (["k=9"], "it must be a whole number from 1 to task.max_sources = 5"),
        (["snr=1", "simulator.codes.bits=2"], "its codebooks must be those of"),
        (["snr=1", "simulator.scene.source_model=static"], "it must be that of the dataset, iid"),
        (["simulator.channel.kappa=[3,3]"], "it must fix at least one value"),
        (["snr=1,1"], "each value must be given once"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(trained, capsys, cells, message):
    assert evaluate.main(["--checkpoint", str(trained), "--scenes", "4", "--cells", *cells]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_task_without_cells_is_refused(tmp_path, capsys):
    toy = ["task=toy", "space=toy", "--config-dir", "tests/configs", "tracking.mode=disabled"]
    data = tmp_path / "data"
    sizes = ["--train", "64", "--val", "32", "--test", "32"]
    assert simulate.main(["task=toy", "--config-dir", "tests/configs", "--out", str(data), *sizes]) == 0
    run = tmp_path / "run"
    assert train.main([*toy, f"data.uri={data}", "training.epochs=1", "--out", str(run)]) == 0
    capsys.readouterr()
    assert evaluate.main(["--checkpoint", str(run / "best"), "--cells", "snr=1"]) == 2
    assert "the task must have cell_values and evaluate_cells" in " ".join(capsys.readouterr().err.split())
