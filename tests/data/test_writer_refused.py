"""What is refused before a dataset is written, and by what name."""

from dataclasses import replace

import numpy as np
import pytest

from ristune.data.columns import Column
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.errors import InputError
from tests.data.drawing import COLUMNS, Drawing, files

SIZES = {"train": 20, "val": 6, "test": 3}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"sizes": {"dev": 3}}, "sizes: got 'dev'; a split is one of train, val, test"),
        ({"sizes": {"train": -1}}, "sizes.train: got -1; a number of samples is an integer of at least 0"),
        ({"sizes": {"train": 0}}, "at least one sample is required"),
        ({"seed": -1}, "seed: got -1; a seed is an integer of at least 0"),
        (
            {"shard_rows": 0},
            "shard_rows: got 0; the number of samples in a shard is an integer of at least 1",
        ),
        ({"simulator": Drawing(scale=float("nan"))}, "generator 'drawing': parameters: .*are a JSON object"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_made(tmp_path, change, rule):
    source = Simulated(**{"simulator": Drawing(), "sizes": SIZES, "seed": 0, **change})
    with pytest.raises(InputError, match=rule):
        write_dataset(str(tmp_path / "d"), source)
    assert not (tmp_path / "d").exists()
    assert source.simulator.draws == 0


class Whole(Drawing):
    """One table, named and typed as it is told to be; whatever else it is told to be."""

    table = "codebook"

    def __init__(self, **change):
        super().__init__()
        vars(self).update(change)

    def tables(self):
        return {self.table: super().tables()["codebook"]}


def changed(**change):
    return (replace(COLUMNS[0], **change), *COLUMNS[1:])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": None}, "generator None: name: got None; a text is required"),
        ({"version": 1}, "generator 'drawing': version: got 1; a text is required"),
        ({"table": "../../pwned"}, r"table '../../pwned': got .*a table is named by an ASCII identifier"),
        ({"table": "a-b"}, "a table is named by an ASCII identifier; use letters, digits and underscores"),
        ({"columns": changed(unit=None)}, "column 'wave': unit: got None; name, unit and role .* are texts"),
        ({"columns": changed(name=3)}, "column 3: name: got 3; name, unit and role of a column are texts"),
        ({"columns": changed(shape=(3, 2.0))}, r"shape: got 2\.0; every dimension is an integer"),
        ({"columns": changed(shape=3)}, "shape: got 3; the shape of one row is a sequence of integers"),
        ({"columns": changed(dtype=">f4")}, "got '>f4'; dtype must be one of"),
        ({"columns": changed(dtype=None)}, "got None; dtype must be one of"),
    ],
)
def test_what_the_manifest_cannot_hold_is_refused_before_anything_is_drawn(tmp_path, change, rule):
    simulator = Whole(**change)
    with pytest.raises(InputError, match=rule):
        write_dataset(str(tmp_path / "d"), Simulated(simulator, SIZES, 0))
    assert simulator.draws == 0
    assert not (tmp_path / "d").exists() and not (tmp_path / "pwned.parquet").exists()


@pytest.mark.parametrize("change", [{"seed": 1.5}, {"sizes": {"train": 2.5}}, {"sizes": {"train": None}}])
def test_a_number_that_is_no_integer_is_refused(tmp_path, change):
    with pytest.raises(InputError, match=r"got (1\.5|2\.5|None); .* is an integer of at least 0"):
        write_dataset(
            str(tmp_path / "d"), Simulated(**{"simulator": Drawing(), "sizes": SIZES, "seed": 0, **change})
        )


def test_numbers_and_types_of_numpy_are_as_good_as_plain_ones(tmp_path):
    columns = (Column("wave", np.dtype("<f4"), tuple(np.array([3, 2])), "V", "input"), *COLUMNS[1:])
    sizes = {name: np.int64(rows) for name, rows in SIZES.items()}
    write_dataset(str(tmp_path / "a"), Simulated(Whole(columns=columns), sizes, np.int64(7), np.int32(8)))
    write_dataset(str(tmp_path / "b"), Simulated(Drawing(), SIZES, 7, 8))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_simulator_without_an_id_is_refused(tmp_path):
    class Anonymous(Drawing):
        columns = COLUMNS[:-1]

    with pytest.raises(
        InputError, match=r"generator 'drawing': columns: got \[\]; exactly one column of role 'id'"
    ):
        write_dataset(str(tmp_path / "d"), Simulated(Anonymous(), SIZES, 0))


def test_a_value_that_is_not_finite_names_shard_column_and_row(tmp_path):
    class Diverging(Drawing):
        def draw(self, rows, rng):
            arrays = dict(super().draw(rows, rng))
            if self.draws == 2:
                arrays["channel"][3, 1] = np.inf
            return arrays

    with pytest.raises(
        InputError, match="train/00001.parquet: column 'channel': got inf; row 3: every value"
    ):
        write_dataset(str(tmp_path / "d"), Simulated(Diverging(), SIZES, 0, 8))
