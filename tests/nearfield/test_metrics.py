import math

import numpy as np
import pytest
import torch

from ristune.nearfield.bound import Bound
from ristune.nearfield.geometry import cosines
from ristune.nearfield.metrics import f1_advantage, score
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
    shares = ("success", "recall", "prec.", "F1")
    assert result.row()["success"] == 1
    assert max(v for k, v in result.row().items() if k not in shares) < 1e-5


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
    assert (result.truths.tolist(), result.estimates.tolist(), result.hit.tolist()) == ([1], [1], [1])


def test_without_a_hit_errors_are_not_a_number():
    result = score(estimates((50, 0, 4)), points((0, 0, 4)), torch.tensor([1]))
    assert result.f1 == 0 and math.isnan(result.row()["az"])


def test_azimuth_is_wrapped():
    result = score(estimates((-1, 0, 4)), points((1, 0, 4)), torch.tensor([1]))
    assert result.hits.azimuth[0] == pytest.approx(math.radians(-2))


@pytest.mark.parametrize(
    ("found", "success"),
    [
        (estimates((0.9, 0, 4), (30, 0, 4)), True),
        (estimates((1.1, 0, 4), (30, 0, 4)), False),
        (estimates((0, 1.1, 4), (30, 0, 4)), False),
        (estimates((0, 0, 4)), False),
        (estimates((0, 0, 4), (30, 0, 4), (-30, 0, 4)), False),
    ],
    ids=["found", "azimuth", "elevation", "missed", "false alarm"],
)
def test_a_success_has_every_source_and_no_other(found, success):
    result = score(found, points((0, 0, 4), (30, 0, 4)), torch.tensor([2]))
    assert result.success.tolist() == [success]


def test_ospa_and_gospa_of_a_known_case():
    # One source 0.3 m off, one missed: sqrt((0.09 + 1) / 2) and sqrt(0.09 + 1 / 2).
    result = score(estimates((0, 0, 4.3)), points((0, 0, 4), (30, 0, 4)), torch.tensor([2]))
    assert result.ospa[0] == pytest.approx(math.sqrt(1.09 / 2), abs=1e-6)
    assert result.gospa[0] == pytest.approx(math.sqrt(0.59), abs=1e-6)


def test_ospa_is_bounded_and_counts_false_alarms_as_misses():
    far = score(estimates((50, 0, 4)), points((0, 0, 4)), torch.tensor([1]))
    assert far.ospa[0] == pytest.approx(1) and far.gospa[0] == pytest.approx(1)
    more = score(estimates((0, 0, 4), (50, 0, 4)), points((0, 0, 4)), torch.tensor([1]))
    less = score(estimates((0, 0, 4)), points((0, 0, 4), (50, 0, 4)), torch.tensor([2]))
    assert more.ospa[0] == pytest.approx(less.ospa[0]) == pytest.approx(math.sqrt(0.5))


def test_numbers_of_sources_are_counted_by_truth_and_estimate():
    result = score(estimates((0, 0, 4)), points((0, 0, 4), (30, 0, 4)), torch.tensor([2]))
    assert result.confusion(3)[2, 1] == 1 and result.confusion(3).sum() == 1


def test_errors_are_divided_by_the_bound_of_their_own_source():
    truth = points((0, 0, 4), (30, 0, 4))
    result = score(estimates((30.2, 0, 4), (0.1, 0.1, 5)), truth, torch.tensor([2]))
    deg = torch.deg2rad(torch.tensor([[0.1, 0.2]], dtype=torch.float64))
    ones = torch.ones(1, 2, dtype=torch.float64)
    ratios = result.bound_ratios(Bound(deg, deg, ones, 0.05 * ones, ones))
    assert ratios["azimuth"] == pytest.approx(1, rel=1e-6)
    assert ratios["elevation"] == pytest.approx(math.sqrt(0.5), rel=1e-6)
    assert ratios["inverse_range"] == pytest.approx(math.sqrt(0.5), rel=1e-6)


def test_scenes_without_success_do_not_count_for_the_bound():
    result = score(estimates((2, 0, 4)), points((0, 0, 4)), torch.tensor([1]))
    ones = torch.ones(1, 1, dtype=torch.float64)
    assert result.hit.tolist() == [1]
    assert all(math.isnan(v) for v in result.bound_ratios(Bound(ones, ones, ones, ones, ones)).values())


def test_the_advantage_in_f1_is_paired_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    truth, counts = torch.tensor([[[0.1, 0.1, 0.2]]]).expand(400, -1, -1), torch.ones(400, dtype=torch.int32)
    far = truth + torch.tensor([0.4, 0.0, 0.0])
    found = torch.ones(400, 1, dtype=torch.bool)

    def hitting(share):
        good = torch.arange(400) < share * 400
        return score(Estimates(torch.where(good[:, None, None], truth, far), found), truth, counts)

    more, less = hitting(0.6), hitting(0.55)
    mean, low, high = f1_advantage(more, less, rng)
    assert mean == pytest.approx(0.05) and low < 0.05 < high
    # Both fail in the same scenes: 0.05 +- 1.96 sqrt(0.05 * 0.95 / 400), far less than unpaired.
    assert low == pytest.approx(0.05 - 0.0214, abs=0.005) and high == pytest.approx(0.05 + 0.0214, abs=0.005)
    assert f1_advantage(more, more, rng) == (0, 0, 0)
