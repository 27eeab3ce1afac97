"""Statistics that are gathered piece by piece are those of the whole, at any scale."""

import math
from fractions import Fraction

import numpy as np
import pytest

from ristune.data.dataset import open_dataset
from ristune.data.writing import statistics
from ristune.data.writing.source import Simulated
from ristune.data.writing.statistics import moments, summarise
from ristune.data.writing.writer import write_dataset
from tests.data.drawing import Drawing

LARGEST = np.finfo(np.float64).max


def exact(array):
    """Mean and standard deviation by rational numbers, rounded once."""
    numbers = [Fraction(float(value)) for value in array]
    mean = sum(numbers) / len(numbers)
    scale = Fraction(2) ** math.frexp(max(abs(float(value)) for value in array))[1]
    variance = sum(((number - mean) / scale) ** 2 for number in numbers) / len(numbers)
    return float(mean), float(Fraction(math.sqrt(variance)) * scale)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-99, 1.0, 1e99, 1e200, 1e307])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_blocks_of_any_scale_give_the_statistics_of_the_whole(monkeypatch, scale, offset):
    monkeypatch.setattr(statistics, "BLOCK", 7)
    array = (np.random.default_rng(1).uniform(-1, 1, 100) + offset) * (scale / max(1.0, offset))
    found = summarise([moments(array[:40]), moments(array[40:])])
    mean, std = exact(array)
    assert found.mean == pytest.approx(mean, rel=1e-12, abs=scale * 1e-15)
    assert found.std == pytest.approx(std, rel=1e-10, abs=0)


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_the_largest_numbers_there_are_give_finite_statistics(monkeypatch, block):
    monkeypatch.setattr(statistics, "BLOCK", block)
    found = summarise([moments(np.array([-LARGEST, LARGEST] * 50))])
    assert abs(found.mean) <= LARGEST * 1e-14
    assert found.std == pytest.approx(LARGEST, rel=1e-12) and found.std <= LARGEST


@pytest.mark.parametrize("value", [0.0, 0.1, -3e-250, 1e9 + 0.1, 1e250])
def test_a_constant_has_no_spread(monkeypatch, value):
    monkeypatch.setattr(statistics, "BLOCK", 8)
    found = summarise([moments(np.full(64, value)), moments(np.full(32, value))])
    assert (found.mean, found.std) == (value, 0.0)


def test_a_column_of_huge_numbers_is_written_and_read(tmp_path):
    class Huge(Drawing):
        def draw(self, rows, rng):
            return {**super().draw(rows, rng), "power": rng.normal(size=rows) * 1e200}

    manifest = write_dataset(str(tmp_path / "d"), Simulated(Huge(), {"train": 20}, 0, 8))
    assert 1e199 < manifest.statistics["power"].std < 1e201
    assert open_dataset(str(tmp_path / "d")).manifest == manifest
