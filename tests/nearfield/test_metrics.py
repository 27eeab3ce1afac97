import math

import pytest
import torch

from ristune.nearfield.geometry import cosines
from ristune.nearfield.metrics import score
from ristune.nearfield.music import Estimates


def points(*sources):
    azimuth, elevation, distance = torch.tensor(sources, dtype=torch.float64).T
    return cosines(torch.deg2rad(azimuth), torch.deg2rad(elevation), 1 / distance).unsqueeze(0)


def estimates(*sources):
    return Estimates(points(*sources), torch.ones(1, len(sources), dtype=torch.bool))


def test_perfect_estimates_in_any_order_score_one():
    truth = points((10, 5, 3), (-20, 0, 8))
    result = score(estimates((-20, 0, 8), (10, 5, 3)), truth, torch.tensor([2]))
    assert (result.recall, result.precision, result.f1) == (1, 1, 1)
    assert max(v for k, v in result.row().items() if k not in ("recall", "prec.", "F1")) < 1e-5


def test_a_known_case_by_hand():
    truth = points((0, 0, 4), (30, 0, 4), (-30, 0, 4))
    found = estimates((1, 0, 5), (50, 0, 4))
    result = score(found, truth, torch.tensor([3]))
    assert result.recall == pytest.approx(1 / 3) and result.precision == pytest.approx(1 / 2)
    assert result.f1 == pytest.approx(2 / 5)
    row = result.row()
    assert row["az"] == pytest.approx(1) and row["el"] == pytest.approx(0, abs=1e-6)
    assert row["range"] == pytest.approx(1) and row["~angle"] == pytest.approx(1)


def test_misses_lower_the_recall_and_never_the_errors():
    """RMSE over hits looks good by dropping failures: the recall beside it shows them."""
    truth = points((0, 0, 4), (30, 0, 4))
    result = score(estimates((0.5, 0, 4), (-50, 20, 4)), truth, torch.tensor([2]))
    assert result.row()["az"] == pytest.approx(0.5) and result.recall == 0.5


def test_the_assignment_prefers_pairs_within_the_gate_to_short_distances():
    # By distance alone, the estimate at 9 m would take the wrong truth.
    truth = points((0, 0, 2), (20, 0, 9))
    result = score(estimates((0, 0, 9), (20, 0, 2)), truth, torch.tensor([2]))
    assert result.recall == 1 and result.row()["range"] == pytest.approx(7)


def test_the_gate_is_a_great_circle():
    # At 60 degrees of elevation, 5 degrees of azimuth are 2.5 on the sphere.
    result = score(estimates((5, 60, 4)), points((0, 60, 4)), torch.tensor([1]))
    assert result.recall == 1 and result.row()["~angle"] == pytest.approx(2.5, abs=0.01)
    assert score(estimates((0, 3.1, 4)), points((0, 0, 4)), torch.tensor([1])).recall == 0


def test_padded_truths_and_estimates_that_were_not_found_do_not_count():
    truth = torch.cat([points((0, 0, 4)), torch.zeros(1, 1, 3, dtype=torch.float64)], dim=1)
    found = Estimates(points((0, 0, 4), (10, 0, 4)), torch.tensor([[True, False]]))
    result = score(found, truth, torch.tensor([1]))
    assert (result.truths, result.estimates, result.hits) == (1, 1, 1)


def test_without_a_hit_errors_are_not_a_number():
    result = score(estimates((50, 0, 4)), points((0, 0, 4)), torch.tensor([1]))
    assert result.f1 == 0 and math.isnan(result.row()["az"])
