import pickle

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from ristune.data.writing.source import Part, Simulated, parts
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Drawing


class Changing(Drawing):
    """Changes what it draws from the second block on."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def draw(self, rows, rng):
        arrays = dict(super().draw(rows, rng))
        if self.draws > 1:
            self.change(arrays)
        return arrays


def test_parts_cut_every_split_in_order():
    assert parts({"test": 1, "train": 20, "val": 0}, COLUMNS, 8) == (
        Part("train", 0, 8),
        Part("train", 1, 8),
        Part("train", 2, 4),
        Part("test", 0, 1),
    )
    assert Part("val", 12, 3).path == "val/00012.parquet"


def test_a_source_can_be_shipped_to_another_process():
    source = Simulated(Drawing(), {"train": 5}, 1)
    there = pickle.loads(pickle.dumps(source))
    part = Part("train", 3, 5)
    for name, array in source.arrays(part).items():
        assert np.array_equal(array, there.arrays(part)[name])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            lambda a: a.update(power=a["power"].astype("<f4")),
            r"column 'power': got \(3, '<f4'\)",
        ),
        (lambda a: a.update(wave=a["wave"][:, :1]), r"column 'wave': got \(3, 1, 2, '<f4'\)"),
        (
            lambda a: a.update(index=a["index"][:1]),
            "column 'index': got .*3 rows were asked for",
        ),
        (lambda a: a.pop("gain"), "column 'gain': got None"),
        (lambda a: a.update(more=a["gain"]), "column 'more': got .*: None"),
    ],
)
def test_a_draw_unlike_the_first_is_refused_and_never_converted(monkeypatch, change, rule):
    monkeypatch.setattr("ristune.data.writing.source.DRAWN_ROWS", 3)
    with pytest.raises(InputError, match=f"train/00000.parquet: {rule}"):
        Simulated(Changing(change), {"train": 6}, 0).arrays(Part("train", 0, 6))


@pytest.mark.parametrize(
    ("drawn", "rule"),
    [
        (None, "draw: got 'NoneType'; draw returns one array for each column, by name"),
        ([1, 2], "draw: got 'list'; draw returns one array"),
        ({"power": [1.0, 2.0]}, "column 'power': got 'list'; a numpy array is required"),
        ({"power": None}, "column 'power': got 'NoneType'; a numpy array is required"),
        ({"power": np.array(1.0)}, "column 'power': got .*2 rows were asked for"),
    ],
)
def test_what_is_drawn_must_be_arrays_by_name(drawn, rule):
    class Wrong(Drawing):
        def draw(self, rows, rng):
            return drawn

    with pytest.raises(InputError, match=f"train/00000.parquet: {rule}"):
        Simulated(Wrong(), {"train": 2}, 0).arrays(Part("train", 0, 2))


def test_samples_are_drawn_on_one_core():
    seen = []

    class Watching(Drawing):
        def draw(self, rows, rng):
            seen.extend(pool["num_threads"] for pool in threadpool_info())
            return super().draw(rows, rng)

    Simulated(Watching(), {"train": 5}, 0).arrays(Part("train", 0, 5))
    assert seen and set(seen) == {1}
