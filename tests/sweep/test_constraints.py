from collections.abc import Callable
from typing import Any

import pytest

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.constraints import evaluate, paths_of
from ristune.sweep.space import ask, violated
from ristune.sweep.space_parsing import parse_space, read_space

Toy = Callable[..., Config]
WIDTH = {"task.width": {"choices": [4, 16, 64]}, "training.batch_size": {"low": 16, "high": 128, "step": 16}}
NAMES = {"a": {"low": 1, "high": 8}, "b": {"low": 1, "high": 8}, "kind": {"choices": ["x", "y"]}}


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("a * b <= 8", {"a": 2, "b": 4}, True),
        ("a * b <= 8", {"a": 3, "b": 4}, False),
        ("kind in ['x', 'y'] and not a == 3", {"kind": "x", "a": 2}, True),
        ("a <= 3 if kind == 'x' else a > 3", {"kind": "y", "a": 2}, False),
        ("1 <= a < b <= 4", {"a": 1, "b": 4}, True),
        ("max(a, b) / min(a, b) <= 2", {"a": 3, "b": 6}, True),
        ("task.grid[1] % task.network.width == 0", {"task.grid": [6, 12], "task.network.width": 4}, True),
        ("log2(a) + sqrt(b) == 4", {"a": 4, "b": 4}, True),
        # A path may begin as another one ends, and be called as a method of Python's is.
        ("model.items <= 3 and model == 'big'", {"model.items": 3, "model": "big"}, True),
    ],
)
def test_a_constraint_says_which_points_do(text: str, values: dict[str, Any], holds: bool) -> None:
    outcome = evaluate(text, values)
    assert outcome.holds is holds and not outcome.fault
    assert set(paths_of(text)) == set(values)


def test_a_constraint_may_read_what_is_searched_and_what_is_fixed(toy: Toy) -> None:
    texts = ["training.batch_size * task.width <= 1024", "task.width <= 4 * training.accumulate or seed == 7"]
    space = parse_space(toy("training.accumulate=4", space={**WIDTH, "constraints": texts}))
    assert space.constraints == tuple(texts)
    assert violated(space, {"task.width": 16, "training.batch_size": 64}) == ""
    assert violated(space, {"task.width": 16, "training.batch_size": 128}) == texts[0]
    assert violated(space, {"task.width": 64, "training.batch_size": 16}) == texts[1]
    lucky = parse_space(toy("training.accumulate=4", "seed=7", space={**WIDTH, "constraints": texts}))
    assert violated(lucky, {"task.width": 64, "training.batch_size": 16}) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task.width <= 8 * tas.width", "'tas.width' is not in the config; did you mean 'task.width'"),
        ("task.width <= 8 * space.width", "'space.width' is not in the config"),
        ("task.width <= task", "'task' is a group of values; name one of them"),
        ("data.uri == 'x'", "'data.uri' only refers to another value .*; name what it refers to"),
        (
            "task.width <= data.train_limit",
            "it must be true or false, and at .*data.train_limit=None '<=' not",
        ),
    ],
)
def test_a_constraint_on_what_the_configuration_has_not_is_refused(toy: Toy, text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^space: constraints: .*{message}"):
        parse_space(toy(space={**WIDTH, "constraints": [text]}))


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("a <= b", r"it must be a list of texts; write \['a <= b'\]"),
        ([3], "got 3; it must be a text"),
        (["a +"], r"it must be an expression \(invalid syntax\)"),
        ([""], "it must be an expression"),
        (["a <= 2; b <= 3"], "it must be an expression"),
        (["a <= aa"], "and 'aa' is none; did you mean 'a'"),
        (["a <= 2 or zz"], "and 'zz' is none; known are a, b, kind"),
        (["a * b"], "it must be true or false, and at a=.*, b=.* it gives .*, which is neither"),
        (["a and b"], "which is neither true nor false"),
        (["a < kind"], "at a=.*, kind='.' '<' not supported"),
        (["a < 3 & b < 3"], "its parts must be joined by and, or, not"),
        (["open('f') == 3"], "its functions must be of abs, .*, and are 'open'"),
        (["kind.upper() == 'X'"], "its functions must be of abs, .*, and are 'kind.upper'"),
        (["(a + b).real <= 3"], r"it must be of paths and values, and '\(a \+ b\).real' is neither"),
        (["(lambda: a) == 3"], "Lambda is not available"),
        (["[i for i in [1]] == [1]"], "and 'i' is none"),
        (["9 ** 9 ** 9 ** 9 < a"], "I don't want to evaluate"),
        (["a * b < 1"], "0 of 1000 random points satisfy it and those before it; loosen it"),
        (["a / (b - b) < 1"], r"0 of 1000 random points .* \(division by zero\)"),
        (["a < b", "b < a"], "got 'b < a'; 0 of 1000"),
    ],
)
def test_a_constraint_that_cannot_be_meant_is_refused(constraints: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^space: constraints: .*{message}"):
        read_space({**NAMES, "constraints": constraints})


def test_a_constraint_that_hardly_any_point_satisfies_is_refused() -> None:
    entries = {f"x{n}": {"low": 1, "high": 10} for n in range(3)}
    with pytest.raises(InputError, match="[0-9] of 1000 random points satisfy it"):
        read_space({**entries, "constraints": ["x0 == x1 == x2 == 3"]})
    assert read_space({**entries, "constraints": ["x0 == 3"]}).constraints


def test_a_point_at_which_a_constraint_cannot_be_computed_breaks_it() -> None:
    space = read_space({**NAMES, "constraints": ["8 / (b - 1) > 0"]})
    assert violated(space, {"a": 1, "b": 1, "kind": "x"}) == "8 / (b - 1) > 0"
    assert violated(space, {"a": 1, "b": 2, "kind": "x"}) == ""


def test_a_constraint_is_not_asked_before_all_it_reads_is_given() -> None:
    space = read_space({**NAMES, "constraints": ["a <= b"]})
    assert ask(space, "a <= b", {"a": 3}) is None
    outcome = ask(space, "a <= b", {"a": 3, "b": 2})
    assert outcome is not None and not outcome.holds
