"""A few kills of each kind, at random moments of fixed seeds; benchmarks/sweep/chaos.py does many."""

import pytest

from benchmarks.sweep.chaos import PLACES, Tally, run_sweep
from benchmarks.sweep.kills import TARGETS, plan

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("seed", [3, 10])
def test_a_sweep_that_is_killed_again_and_again_ends_whole(seed: int) -> None:
    [kills] = plan((1, 1, 1), each=3, seed=seed)
    tally = Tally()
    left = run_sweep(kills, 12, tally, "sweep")
    assert tally.faults == []
    assert sum(tally.killed.values()) + len(left) == 3
    assert {target for target, _ in tally.killed} <= set(TARGETS)
    assert {place for _, place in tally.killed} <= set(PLACES)
