from dataclasses import replace

import numpy as np
import pytest

from ristune.errors import InputError
from ristune.nearfield.codes import code_values
from tests.nearfield.conftest import CODES

RNG = np.random.default_rng


def test_random_codes_have_the_bits_they_are_given():
    codebook = CODES.draw(16, 12, 12, RNG(0))
    assert set(codebook) == {"phase"}
    assert codebook["phase"].shape == (16, 144) and codebook["phase"].dtype == np.uint8
    assert sorted(set(codebook["phase"].ravel())) == [32 * k for k in range(8)]
    assert np.allclose(np.abs(code_values(codebook)), 1)


@pytest.mark.parametrize("family", ["dft2d", "hadamard"])
def test_structured_codes_are_distinct(family):
    values = code_values(replace(CODES, family=family).draw(16, 12, 12, RNG(0)))
    gram = np.abs(values @ values.conj().T) / 144
    np.fill_diagonal(gram, 0)
    # DFT beams are orthogonal up to the 8-bit phase; of 144 Hadamard columns, 128 cancel and 16 may not.
    assert gram.max() < (0.02 if family == "dft2d" else 16.5 / 144)


@pytest.mark.parametrize(("family", "independent"), [("repeated", 16), ("random", 144), ("dft2d", 144)])
def test_diverse_codes_see_the_whole_surface(family, independent):
    """Rank of the stacked operator H D(c_l), l = 1 .. L: 16 for one code repeated, N for diverse ones."""
    rng = RNG(0)
    h = rng.normal(size=(16, 144)) + 1j * rng.normal(size=(16, 144))
    codes = replace(CODES, family="random" if family == "repeated" else family).draw(16, 12, 12, rng)
    values = code_values(codes)
    if family == "repeated":
        values = np.repeat(values[:1], 16, axis=0)
    assert np.linalg.matrix_rank(np.concatenate(h * values[:, None])) == independent


def test_amplitudes_vary_and_elements_drop_out_as_stated():
    codebook = replace(CODES, amplitude_jitter=0.1, dropout=0.25).draw(100, 12, 12, RNG(0))
    gain = codebook["gain"]
    assert gain.dtype == np.float32 and np.allclose(np.abs(code_values(codebook)), gain)
    assert np.mean(gain == 0) == pytest.approx(0.25, abs=0.02)
    assert np.std(gain[gain > 0]) == pytest.approx(0.1, abs=0.01)
    # The phases are those of perfect elements.
    assert np.array_equal(codebook["phase"], CODES.draw(100, 12, 12, RNG(0))["phase"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"family": "gold"}, "codes.family: got 'gold'; it must be one of random, dft2d, hadamard"),
        ({"bits": 9}, "codes.bits: got 9"),
        ({"amplitude_jitter": -0.1}, "codes.amplitude_jitter: got -0.1"),
        ({"dropout": 1.0}, "codes.dropout: got 1.0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(changes, text):
    with pytest.raises(InputError, match=f"simulator.{text}"):
        replace(CODES, **changes)


def test_too_many_codes_are_refused():
    with pytest.raises(InputError, match="snapshots: got 200; it must be at most 144 for the dft2d codes"):
        replace(CODES, family="dft2d").draw(200, 12, 12, RNG(0))
