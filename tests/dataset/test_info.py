import json
import sys

import pytest
import torch

from ristune.data.columns import Column
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.dataset import info
from ristune.dataset.plot import used_elements
from tests import toy
from tests.conftest import TOY
from tests.data.drawing import Drawing


def test_it_says_what_is_there(toy_dataset, capsys):
    assert info.main([toy_dataset]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        toy_dataset,
        "generator 'toy', version '1', seed ",
        "noise = 0.1",
        "20 B a sample",
        "x <f4 2 1 input 8",
        "sample_id <i8 - 1 id 8",
        "train 128 1",
        "statistics of the train split",
    ):
        assert part in shown, part


def test_json_holds_all_of_it(tmp_path, capsys):
    manifest = write_dataset(str(tmp_path / "d"), Simulated(Drawing(), {"train": 20, "test": 3}, 4, 8))
    assert info.main([str(tmp_path / "d"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["dataset_id"] == manifest.dataset_id and about["hint"] == ""
    assert about["generator"] == {"name": "drawing", "version": "1", "parameters": {"scale": 1.0}, "seed": 4}
    assert about["splits"]["train"]["rows"] == 20 and about["splits"]["train"]["shards"] == 3
    assert about["columns"][0] == {
        "name": "wave",
        "dtype": "<f4",
        "shape": [3, 2],
        "unit": "V",
        "role": "input",
        "bytes": 24,
    }
    assert about["tables"]["codebook"]["rows"] == 3
    assert about["statistics"]["power"]["max"] == manifest.statistics["power"].max


def test_files_of_other_tools_come_with_a_hint(foreign, capsys):
    assert info.main([foreign]) == 0
    shown = capsys.readouterr().out
    assert f"python -m ristune.dataset convert {foreign} OUT makes a dataset of it" in shown
    assert "rows are numbered anew" in shown


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_plot_has_histograms_and_the_tasks_picture_of_one_sample(
    toy_dataset, tmp_path, monkeypatch, suffix
):
    drawn = []

    def draw(self, sample, axes):
        drawn.append({name: tuple(tensor.shape) for name, tensor in sample.items()})
        axes.set_title("PICTURE")

    monkeypatch.setattr(toy.ToyTask, "draw_sample", draw, raising=False)
    # Text stays text in the file.
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    path = tmp_path / f"new/plot{suffix}"
    assert info.main([toy_dataset, *TOY, "--plot", str(path)]) == 0
    assert drawn == [{"x": (2,), "target": (), "sample_id": ()}]
    data = path.read_bytes()
    if suffix == ".svg":
        assert all(
            text in data.decode() for text in ("PICTURE", ">x<", ">target<", "128 of 128 rows of train")
        )
    else:
        assert data.startswith(b"\x89PNG")


def test_without_a_task_there_are_histograms_and_the_reason(toy_dataset, tmp_path, capsys):
    assert info.main([toy_dataset, "--plot", str(tmp_path / "plot.png")]) == 0
    assert (
        "no picture of a sample: the task is 'nearfield' and the dataset of 'toy'" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("name", "rule"), [("plot.doc", "the file ends in .png, .pdf, .svg"), ("file/plot.png", "can be written")]
)
def test_a_plot_that_cannot_be_written_is_bad_input(toy_dataset, tmp_path, capsys, name, rule):
    (tmp_path / "file").write_text("")
    assert info.main([toy_dataset, "--plot", str(tmp_path / name)]) == 2
    assert rule in capsys.readouterr().err


def test_a_plot_without_matplotlib_says_how_to_install_it(toy_dataset, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert info.main([toy_dataset, "--plot", str(tmp_path / "plot.png")]) == 2
    assert "matplotlib is required" in (error := capsys.readouterr().err)
    assert "pip install 'ristune[plot]'" in error


LABELS = [Column(name, "<f4", (4,), "1", "label") for name in ("azimuth", "range", "phase")]


def slots(counts):
    used = torch.arange(4) < torch.tensor(counts)[:, None]
    azimuth = torch.linspace(-1, 1, used.numel()).reshape(used.shape)
    # An azimuth of zero in a slot that is used, and a label that is zero throughout.
    azimuth[0, 0] = 0
    return used, {
        "azimuth": azimuth * used,
        "range": (2 + azimuth) * used,
        "phase": torch.zeros(used.shape),
    }


def test_slots_that_are_padded_are_left_out():
    used, values = slots([1, 4, 2, 3])
    found = used_elements(LABELS, values)
    assert found.keys() == {"azimuth", "range", "phase"}
    assert all(torch.equal(mask, used) for mask in found.values())


def test_zeros_that_are_values_are_not_taken_for_padding():
    columns = [Column("kind", "<f4", (3,), "1", "label"), Column("taps", "<f4", (2,), "1", "input")]
    values = {"kind": torch.eye(3), "taps": torch.tensor([[1.0, 0.0]] * 3)}
    assert used_elements(columns, values) == {}
    assert used_elements(LABELS, slots([4, 4, 4])[1]) == {}
    assert used_elements(LABELS, {name: torch.zeros(2, 4) for name in ("azimuth", "range", "phase")}) == {}


@pytest.mark.parametrize("words", [["{}", "task=toy"], ["task=toy", "{}"]])
def test_the_dataset_may_stand_anywhere_among_overrides(toy_dataset, words, capsys):
    words = [word.format(toy_dataset) for word in words]
    assert info.main([*words, "--config-dir", "tests/configs"]) == 0
    assert toy_dataset in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["a", "b"], ["task=toy", "--config-dir", "tests/configs"]])
def test_one_dataset_is_required(words, capsys):
    assert info.main(words) == 2
    assert "one dataset is required" in capsys.readouterr().err


def test_numbers_of_bytes_are_in_words():
    from ristune.dataset.console import size

    assert [size(n) for n in (20, 11_392, 5.5e8, 2e13)] == ["20 B", "11.39 kB", "550 MB", "2e+04 GB"]
