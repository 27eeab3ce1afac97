from collections.abc import Callable
from typing import Any

import pytest

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.space import Choices, Parameter, Range
from ristune.sweep.space_parsing import parse_space, read_space

Toy = Callable[..., Config]


def test_a_space_becomes_distributions(toy: Toy) -> None:
    space = parse_space(
        toy(
            space={
                "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
                "training.batch_size": {"low": 32, "high": 128, "step": 32},
                "task.width": {"choices": [4, 16]},
                "optimizer.weight_decay": {"low": 0, "high": 0.5},
            }
        )
    )
    assert space.parameters == {
        "optimizer.lr": Parameter(Range(1e-4, 1e-1, log=True)),
        "training.batch_size": Parameter(Range(32, 128, step=32)),
        "task.width": Parameter(Choices((4, 16))),
        "optimizer.weight_decay": Parameter(Range(0.0, 0.5)),
    }
    assert not space.conditional and not space.constraints


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space: .* at least one path"),
        (
            {"optimizer.learning_rate": {"low": 0.1, "high": 0.2}},
            "not in the config; did you mean 'optimizer.*'",
        ),
        ({"sweep.seed": {"choices": [1, 2]}}, "'sweep.seed'; a trial may not search it"),
        ({"tracking.mode": {"choices": ["offline"]}}, "may not search"),
        ({"simulator.noise": {"low": 0.1, "high": 0.2}}, "may not search"),
        ({"data.uri": {"choices": ["a"]}}, "may not search"),
        ({"data.val_limit": {"choices": [8, 16]}}, "may not search"),
        ({"output": {"choices": ["a"]}}, "may not search"),
        ({"task.objective": {"choices": ["a"]}}, "may not search"),
        ({"training.objective": {"choices": ["a"]}}, "may not search"),
        ({"training.ceiling": {"low": 1.0, "high": 2.0}}, "may not search"),
        ({"training.epochs": {"low": 1, "high": 2}}, "may not search"),
        ({"training.device": {"choices": ["cpu"]}}, "may not search"),
        ({"task.width": 4}, r"must be \{low, high"),
        ({"task.width": {}}, r"must be \{low, high"),
        ({"task.width": {"low": 1, "high": 2, "choices": [1]}}, r"must be \{low, high"),
        (
            {"task.width": {"low": 1, "high": 4, "lgo": True}},
            "got 'lgo'; a range knows high, log, low, step, when",
        ),
        ({"task.width": {"choices": [1], "log": True}}, r"must be \{low, high"),
        ({"task.width": {"choices": [1], "weights": [1]}}, "beside choices there may be `when` and no more"),
        ({"task.width": {"low": 1}}, "task.width.high: got None; it must be a finite number"),
        ({"task.width": {"low": True, "high": 4}}, "must be a finite number"),
        ({"optimizer.lr": {"low": 0.1, "high": float("inf")}}, "must be a finite number"),
        ({"optimizer.lr": {"low": "1e-4", "high": 0.1}}, "must be a finite number"),
        ({"task.width": {"low": 4, "high": 4}}, "low must be below high"),
        ({"optimizer.weight_decay": {"low": 0.0, "high": 0.1, "log": True}}, "must begin above 0"),
        ({"task.width": {"low": 1, "high": 9, "log": True, "step": 2}}, "exclude each other"),
        ({"task.width": {"low": 1, "high": 9, "log": 1}}, "must be true or false"),
        (
            {"task.width": {"low": 1, "high": 9, "step": 3}},
            "high must be a whole number of steps",
        ),
        ({"task.width": {"low": 1, "high": 9, "step": 0}}, "must be above 0"),
        ({"task.width": {"low": 1, "high": 9, "step": 0.5}}, "integer"),
        ({"task.width": {"choices": []}}, "a list of one or more"),
        ({"task.width": {"choices": [4, 4]}}, "every choice must differ"),
        ({"task.width": {"choices": [[4]]}}, "a choice must be text"),
        ({"optimizer.lr": {"choices": [float("nan")]}}, "a choice must be finite"),
    ],
)
def test_a_bad_space_is_refused_with_its_reason(toy: Toy, space: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_space(toy(space=space))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"task.width": {"choices": [4, "wide"]}}, "task.width: got 'wide'; it must be of the kind integer"),
        ({"task.width": {"low": 4.0, "high": 8.0}}, "task.width: got 4.0; it must be of the kind integer"),
        ({"task.explode": {"choices": [True, 1.5]}}, "it must be of the kind truth value"),
        ({"optimizer.beta1": {"low": 0.5, "high": 1.5}}, r"optimizer.beta1: got 1.5; it must be in \[0, 1\)"),
        ({"optimizer": {"choices": ["adamw"]}}, "it must be of the kind mapping"),
    ],
)
def test_a_bound_the_configuration_would_refuse_is_known_before_any_trial(
    toy: Toy, space: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse_space(toy(space=space))


def test_integer_bounds_on_a_number_are_not_silently_drawn_as_integers(toy: Toy) -> None:
    with pytest.raises(InputError, match="write 0.0 and 1.0, or add step: 1"):
        parse_space(toy(space={"optimizer.weight_decay": {"low": 0, "high": 1}}))
    stepped = parse_space(toy(space={"optimizer.weight_decay": {"low": 0, "high": 2, "step": 1}}))
    assert stepped.parameters["optimizer.weight_decay"].distribution == Range(0, 2, step=1)


SCHEDULE = {"choices": ["cosine", "plateau", "constant"]}


def test_a_value_may_be_searched_under_a_condition(toy: Toy) -> None:
    space = parse_space(
        toy(
            space={
                "optimizer.schedule": SCHEDULE,
                "training.accumulate": {"low": 1, "high": 4},
                "optimizer.plateau_factor": {
                    "low": 0.1,
                    "high": 0.5,
                    "when": {"optimizer.schedule": "plateau"},
                },
                "optimizer.final_lr": {
                    "choices": [0.0, 0.1],
                    "when": {"optimizer.schedule": ["cosine", "plateau"], "training.accumulate": 2},
                },
            }
        )
    )
    assert space.conditional
    assert space.parameters["optimizer.plateau_factor"].when == {"optimizer.schedule": ("plateau",)}
    final = space.parameters["optimizer.final_lr"]
    assert final.when == {"optimizer.schedule": ("cosine", "plateau"), "training.accumulate": (2,)}
    assert final.condition() == "optimizer.schedule is cosine or plateau and training.accumulate is 2"


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (3, r"it must be \{PATH: VALUE\}"),
        ({}, r"it must be \{PATH: VALUE\}"),
        ({"optimizer.schedul": "plateau"}, "comes before; did you mean 'optimizer.schedule'"),
        ({"optimizer.beta1": 0.9}, "must be a searched path that comes before; "),
        ({"task.width": 4}, "got 'task.width'; a value is searched by what was drawn before it"),
        ({"optimizer.plateau_factor": 0.1}, "comes later or is itself; move it before"),
        ({"optimizer.lr": 0.1}, "must be on choices or integers: .*; search optimizer.lr by choices"),
        ({"optimizer.schedule": "plateaus"}, "got 'plateaus'; optimizer.schedule never takes it"),
        ({"optimizer.schedule": ["plateau", True]}, "got True; optimizer.schedule never takes it"),
        ({"optimizer.schedule": []}, "must have one value or more"),
        (
            {"training.accumulate": 3},
            "got 3; training.accumulate never takes it: .* whole number of steps of 2",
        ),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(toy: Toy, when: Any, message: str) -> None:
    space = {
        "optimizer.schedule": SCHEDULE,
        "optimizer.lr": {"low": 0.1, "high": 0.5, "step": 0.1},
        "training.accumulate": {"low": 2, "high": 6, "step": 2},
        "optimizer.plateau_factor": {"low": 0.1, "high": 0.5, "when": when},
        "task.width": {"choices": [4, 16]},
    }
    with pytest.raises(InputError, match=f"^space: optimizer.plateau_factor.when: .*{message}"):
        parse_space(toy(space=space))


def test_two_values_that_wait_for_each_other_are_refused() -> None:
    entries = {
        "a": {"choices": [1, 2], "when": {"b": 1}},
        "b": {"choices": [1, 2], "when": {"a": 1}},
    }
    with pytest.raises(InputError, match="got 'b'; .* let no two wait for each other"):
        read_space(entries)


def test_a_condition_that_its_own_conditions_exclude_is_refused() -> None:
    entries = {
        "kind": {"choices": ["a", "b"]},
        "depth": {"low": 1, "high": 4, "when": {"kind": "a"}},
        "width": {"low": 1, "high": 4, "when": {"depth": 2, "kind": "b"}},
    }
    with pytest.raises(
        InputError, match="space: width.when: .* it is never met: kind must have other values"
    ):
        read_space(entries)


def test_the_configuration_is_asked_where_a_value_is_searched(toy: Toy) -> None:
    """A rate of decay above 1 is refused, whatever the condition."""
    space = {
        "training.average": {"choices": ["none", "ema"]},
        "training.ema_decay": {"choices": [0.9, 1.5], "when": {"training.average": "ema"}},
    }
    with pytest.raises(InputError, match="space: training.ema_decay: got 1.5; "):
        parse_space(toy(space=space))


def test_names_are_free_where_there_is_no_configuration() -> None:
    space = read_space({"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "model": {"choices": ["a", None]}})
    assert space.parameters["lr"] == Parameter(Range(1e-4, 1e-1, log=True))
    assert space.fixed == {}
    with pytest.raises(InputError, match="space: lr.low: got '1e-4'; it must be a finite number"):
        read_space({"lr": {"low": "1e-4", "high": 1e-1}})
    with pytest.raises(InputError, match="it must search at least one path"):
        read_space({"constraints": []})
