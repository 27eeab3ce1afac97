from collections.abc import Callable

import numpy as np
import pytest

from ristune.config import Config
from ristune.sweep.history import History
from ristune.sweep.rules import Halving, Median, Never, make_rule
from tests.sweep.events import asked, history, reported

Toy = Callable[..., Config]
NAMES = [f"{n:04d}" for n in range(3000)]


@pytest.mark.parametrize(
    ("name", "kind"), [("asha", Halving), ("hyperband", Halving), ("median", Median), ("none", Never)]
)
def test_the_configured_rule_is_made(toy: Toy, name: str, kind: type) -> None:
    assert isinstance(make_rule(toy(f"sweep.scheduler={name}").sweep, [1, 3]), kind)


def test_without_a_rung_none_is_stopped(toy: Toy) -> None:
    assert isinstance(make_rule(toy().sweep, []), Never)


def test_brackets_begin_later_and_the_last_has_no_rung() -> None:
    halving = Halving([1, 3, 9], 3, brackets=True)
    assert [list(bracket) for bracket in halving.rungs] == [[1, 3, 9], [3, 9], [9], []]


def test_brackets_have_hyperbands_shares_and_hang_on_seed_and_number_alone() -> None:
    halving = Halving([1, 3, 9], 3, seed=5, brackets=True)
    found = [halving.bracket(name) for name in NAMES]
    counts = np.bincount(found, minlength=4) / len(found)
    begun = np.array([27 / 4, 9 / 3, 3 / 2, 1])
    assert counts == pytest.approx(begun / begun.sum(), abs=0.03)
    assert [Halving([1, 3, 9], 3, seed=5, brackets=True).bracket(name) for name in NAMES[:50]] == found[:50]
    other = Halving([1, 3, 9], 3, seed=6, brackets=True)
    assert [other.bracket(name) for name in NAMES] != found


def test_brackets_do_not_draw_from_the_global_generator() -> None:
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    Halving([1, 3], 3, brackets=True).bracket("0000")
    assert np.random.random() == expected


def test_a_trial_is_compared_within_its_bracket() -> None:
    halving = Halving([1, 3], 3, brackets=True)
    first = [name for name in NAMES[:100] if halving.bracket(name) == 0]
    second = next(name for name in NAMES if halving.bracket(name) == 1)
    for name in first[:5]:
        assert halving.judge(name, 1, 0.1) is not None
    assert halving.judge(second, 1, 9.0) is None
    judged = halving.judge(second, 3, 9.0)
    assert judged is not None
    assert (judged.bracket, judged.cutoff) == (1, None)


def test_brackets_are_made_again_of_a_journal() -> None:
    whole = Halving([1, 3], 3, brackets=True)
    known = history(*[asked(name) for name in NAMES[:40]])
    for number, name in enumerate(NAMES[:40]):
        for epoch in (1, 2, 3):
            judged = whole.judge(name, epoch, number / epoch)
            if judged is not None:
                known.rungs.setdefault(judged.rung, {})[name] = number / epoch
    again = Halving([1, 3], 3, brackets=True)
    again.recall(known)
    for one, other in zip(whole.rungs, again.rungs, strict=True):
        assert {e: r.objectives for e, r in one.items()} == {e: r.objectives for e, r in other.items()}


def curves(*objectives: list[float]) -> History:
    events = [asked(str(number)) for number in range(len(objectives))]
    for number, curve in enumerate(objectives):
        events += [reported(str(number), epoch, value) for epoch, value in enumerate(curve, start=1)]
    return history(*events)


def test_the_median_rule_compares_the_best_with_the_others_running_means() -> None:
    median = Median(grace=2)
    for name, curve in (("a", [0.8, 0.4]), ("b", [0.6, 0.4]), ("c", [1.0, 0.2])):
        for epoch, value in enumerate(curve, start=1):
            assert median.judge(name, epoch, value) is None
    # Below the grace none is judged.
    assert median.judge("d", 1, 9.0) is None
    judged = median.judge("d", 2, 0.7)
    assert judged is not None
    assert judged.cutoff == pytest.approx(0.6)
    assert not judged.noted
    # The second time it changes nothing.
    assert median.judge("d", 2, 0.1) is None


def test_the_median_rule_is_made_again_of_the_records() -> None:
    data = [[0.8, 0.4], [0.6, 0.4], [1.0, 0.2]]
    median = Median(grace=1)
    median.recall(curves(*data))
    judged = median.judge("d", 2, 0.7)
    assert judged is not None and judged.cutoff == pytest.approx(0.6)
