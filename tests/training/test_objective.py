import math

from ristune.training.objective import Objective


def test_the_ceiling_is_reported_until_there_is_a_finite_value():
    objective = Objective(ceiling=100.0)
    assert objective.reported == 100.0
    for epoch, value in enumerate([math.nan, math.inf, -math.inf], start=1):
        objective.update(value, epoch)
        assert objective.reported == 100.0 and objective.best_epoch == 0


def test_the_ceiling_also_bounds_finite_but_absurd_values():
    objective = Objective(ceiling=100.0)
    objective.update(1.3e17, 1)
    assert objective.reported == 100.0


def test_the_best_value_so_far_is_kept():
    objective = Objective(ceiling=100.0)
    for epoch, value in enumerate([3.0, 1.0, 2.0, math.nan], start=1):
        objective.update(value, epoch)
    assert objective.reported == 1.0 and objective.best_epoch == 2
