from collections.abc import Callable
from typing import Any

import optuna
import pytest

from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.space import Choices, Range, parse_space, suggest

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
    assert space == {
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
        "training.batch_size": Range(32, 128, step=32),
        "task.width": Choices((4, 16)),
        "optimizer.weight_decay": Range(0.0, 0.5),
    }
    assert space["training.batch_size"].integer


def test_values_lie_in_the_space_and_fit_the_configuration(toy: Toy) -> None:
    config = toy(
        space={
            "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "training.batch_size": {"low": 32, "high": 128, "step": 32},
            "task.explode": {"choices": [False, True]},
            "optimizer.beta1": {"low": 0.5, "high": 0.75, "step": 0.125},
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [suggest(parse_space(config), study.ask()) for _ in range(30)]
    assert all(1e-4 <= values["optimizer.lr"] <= 1e-1 for values in seen)
    assert {values["training.batch_size"] for values in seen} == {32, 64, 96, 128}
    assert {values["task.explode"] for values in seen} == {False, True}
    assert {values["optimizer.beta1"] for values in seen} == {0.5, 0.625, 0.75}
    for values in seen:
        config.with_values(values)


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
        ({"task.width": {"low": 1, "high": 4, "lgo": True}}, "got 'lgo'; a range knows high, log, low, step"),
        ({"task.width": {"choices": [1], "log": True}}, r"must be \{low, high"),
        ({"task.width": {"choices": [1], "weights": [1]}}, "beside choices there may be nothing"),
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
    assert stepped["optimizer.weight_decay"] == Range(0, 2, step=1)
