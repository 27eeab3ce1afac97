import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from ristune.config import Config, compose
from ristune.sweep.sampler import sampler
from ristune.sweep.space import (
    Choices,
    Parameter,
    Range,
    Space,
    active_distributions,
    check_point,
    points,
    short_names,
    suggest,
    violated,
)
from ristune.sweep.space_parsing import parse_space, read_space

SWEEP = compose().sweep
Toy = Callable[..., Config]
OPTIMIZERS = read_space(
    {
        "name": {"choices": ["adam", "sgd"]},
        "lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "momentum": {"choices": [0.0, 0.9], "when": {"name": "sgd"}},
        "nesterov": {"choices": [False, True], "when": {"momentum": [0.9]}},
        "batch": {"low": 16, "high": 64, "step": 16},
        "width": {"low": 1, "high": 4},
        "constraints": ["batch * width <= 128", "name == 'adam' or momentum * batch < 50"],
    }
)


def test_values_lie_in_the_space_and_fit_the_configuration(toy: Toy) -> None:
    config = toy(
        space={
            "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "training.batch_size": {"low": 32, "high": 128, "step": 32},
            "task.explode": {"choices": [False, True]},
            "optimizer.beta1": {"low": 0.5, "high": 0.75, "step": 0.125},
        }
    )
    space = parse_space(config)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [suggest(space, study.ask()) for _ in range(30)]
    assert all(1e-4 <= values["optimizer.lr"] <= 1e-1 for values in seen)
    assert {values["training.batch_size"] for values in seen} == {32, 64, 96, 128}
    assert {values["task.explode"] for values in seen} == {False, True}
    assert {values["optimizer.beta1"] for values in seen} == {0.5, 0.625, 0.75}
    for values in seen:
        config.with_values(values)


def test_only_active_values_are_suggested_in_the_order_of_the_space() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [suggest(OPTIMIZERS, study.ask()) for _ in range(60)]
    every = list(OPTIMIZERS.parameters)
    for values in seen:
        active = {"name", "lr", "batch", "width"}
        active |= {"momentum"} if values["name"] == "sgd" else set()
        active |= {"nesterov"} if values.get("momentum") == 0.9 else set()
        assert list(values) == [path for path in every if path in active]
        assert list(active_distributions(OPTIMIZERS, values)) == list(values)
    assert len({len(values) for values in seen}) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"lr": 1e-4}, ""),
        ({"lrr": 1.0}, "lrr is not searched; did you mean 'lr'?"),
        ({"lr": 1.0}, "lr: got 1.0; it must be from 0.0001 to 0.1"),
        ({"lr": "fast"}, "lr: got 'fast'; it must be a number"),
        ({"lr": float("nan")}, "lr: got nan; it must be from 0.0001 to 0.1"),
        ({"lr": True}, "lr: got True; it must be a number"),
        ({"batch": 24}, "batch: got 24; it must be a whole number of steps of 16 above 16"),
        ({"batch": 32.0}, "batch: got 32.0; it must be an integer"),
        ({"name": "lion"}, "name: got 'lion'; it must be one of adam, sgd"),
        ({"name": "adam"}, "momentum is searched only when name is sgd"),
        ({"momentum": 0.0}, "nesterov is searched only when momentum is 0.9"),
        ({"momentum": 0}, "nesterov is searched only when momentum is 0.9"),
        ({"nesterov": 1}, "nesterov: got 1; it must be one of False, True"),
        ({"batch": 64, "width": 4}, "it breaks the constraint 'batch * width <= 128'"),
        (
            {"batch": 64, "width": 1},
            "it breaks the constraint \"name == 'adam' or momentum * batch < 50\"",
        ),
    ],
)
def test_a_point_is_told_why_it_is_not_of_the_space(change: dict[str, Any], reason: str) -> None:
    point = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True, "batch": 16, "width": 4}
    assert check_point(OPTIMIZERS, {**point, **change}) == reason


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({}, ""),
        ({"lr": 0.01}, ""),
        ({"momentum": 0.9}, ""),
        ({"batch": 64}, ""),
        ({"name": "adam", "nesterov": True}, "nesterov is searched only when name is sgd"),
        ({"batch": 64, "width": 4}, "it breaks the constraint 'batch * width <= 128'"),
        ({"name": "sgd", "batch": 64}, ""),
        (
            {"momentum": 0.9, "batch": 64, "name": "sgd"},
            "it breaks the constraint \"name == 'adam' or momentum * batch < 50\"",
        ),
    ],
)
def test_a_part_of_a_point_is_held_against_what_it_decides(part: dict[str, Any], reason: str) -> None:
    assert check_point(OPTIMIZERS, part) == reason


def test_a_constraint_on_an_inactive_value_reads_the_configuration(toy: Toy) -> None:
    entries = {
        "training.average": {"choices": ["none", "ema"]},
        "training.ema_decay": {"choices": [0.5, 0.99], "when": {"training.average": "ema"}},
        "optimizer.lr": {"choices": [0.1, 0.2]},
        "constraints": ["training.ema_decay + optimizer.lr < 1.15"],
    }
    space = parse_space(toy(space=entries))
    # 0.999 stands where it is not searched.
    assert violated(space, {"training.average": "none", "optimizer.lr": 0.2})
    assert not violated(space, {"training.average": "none", "optimizer.lr": 0.1})
    assert not violated(space, {"training.average": "ema", "training.ema_decay": 0.5, "optimizer.lr": 0.2})
    free = read_space(entries)
    assert not violated(free, {"training.average": "none", "optimizer.lr": 0.2})


def test_every_point_of_a_finite_space_is_listed_once() -> None:
    space = read_space(
        {
            "kind": {"choices": ["a", "b"]},
            "depth": {"low": 1, "high": 3, "when": {"kind": "a"}},
            "rate": {"low": 0.0, "high": 0.3, "step": 0.1},
            "constraints": ["rate < 0.25"],
        }
    )
    found = points(space, 12)
    assert found is not None
    wanted = [("a", 1), ("a", 2), ("a", 3), ("b", None)]
    rates = [0.0, 0.1, 0.2]
    assert [(p["kind"], p.get("depth"), p["rate"]) for p in found] == [(*w, r) for w in wanted for r in rates]
    assert all(check_point(space, point) == "" for point in found)
    assert points(space, 11) is None


def test_a_space_of_numbers_or_of_too_many_combinations_is_not_listed() -> None:
    assert points(OPTIMIZERS, 10**6) is None
    many = {f"x{n}": Parameter(Range(1, 100)) for n in range(9)}
    assert points(Space(many, ("x0 + x1 > 199",)), 10) is None
    assert points(Space(many), 10) is None


NUMBER = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-9)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """A space of any kinds, some under conditions, as it is written."""
    found: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["float", "log", "step", "int", "intlog", "intstep", "choices"]))
        low, whole = draw(NUMBER), draw(st.integers(-(10**6), 10**6))
        entry: dict[str, Any] = {"low": low, "high": low + draw(st.floats(1e-3, 1e6))}
        if kind == "log":
            entry = {
                "low": abs(low) + 1e-9,
                "high": (abs(low) + 1e-9) * draw(st.floats(1.001, 1e6)),
                "log": True,
            }
        elif kind == "step":
            step, tens = draw(st.integers(1, 99)), 10.0 ** draw(st.integers(-4, 2))
            ends = (whole, whole + step * draw(st.integers(1, 50)))
            low, high, step_ = (round(value * tens, 4) for value in (*ends, step))
            entry = {"low": float(low), "high": float(high), "step": float(step_)}
        elif kind == "int":
            entry = {"low": whole, "high": whole + draw(st.integers(1, 10**6))}
        elif kind == "intlog":
            entry = {"low": abs(whole) + 1, "high": abs(whole) + 1 + draw(st.integers(1, 10**6)), "log": True}
        elif kind == "intstep":
            step = draw(st.integers(1, 1000))
            entry = {"low": whole, "high": whole + step * draw(st.integers(1, 50)), "step": step}
        elif kind == "choices":
            scalars = st.one_of(
                st.none(), st.booleans(), st.integers(2, 99), st.floats(1.25, 99.5), st.text()
            )
            entry = {
                "choices": draw(st.lists(scalars, min_size=1, max_size=4, unique_by=lambda v: (v, str(v))))
            }
            entry["choices"] = [v for i, v in enumerate(entry["choices"]) if v not in entry["choices"][:i]]
        parents = [name for name, each in found.items() if "choices" in each and "when" not in each]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            entry["when"] = {parent: draw(st.sampled_from(found[parent]["choices"]))}
        found[f"x{number}"] = entry
    return found


@settings(max_examples=150, deadline=None)
@given(entries=entries(), name=st.sampled_from(["random", "tpe"]), seed=st.integers(0, 2**16))
def test_what_is_suggested_is_of_the_space_to_the_last_bit(
    entries: dict[str, Any], name: str, seed: int
) -> None:
    space = read_space(entries)
    config = replace(SWEEP, sampler=name, startup_trials=2, seed=seed)
    study = optuna.create_study(sampler=sampler(config, 0, 0))
    for number in range(4):
        trial = study.ask()
        values = suggest(space, trial)
        assert check_point(space, values) == ""
        # As a journal keeps them.
        again = json.loads(json.dumps(values))
        assert again == values and check_point(space, again) == ""
        known = create_trial(params=again, distributions=active_distributions(space, again), value=0.0)
        assert known.params == trial.params
        study.tell(trial, float(number), state=TrialState.COMPLETE)
    finite = points(space, 50)
    if finite is not None:
        assert values in finite


@pytest.mark.parametrize("distribution", [Range(0.0, 1.0), Range(1e-3, 1.0, log=True), Range(1, 9, log=True)])
def test_random_values_of_our_own_fill_the_range(distribution: Range) -> None:
    rng = np.random.default_rng(0)
    drawn = [distribution.draw(rng) for _ in range(2000)]
    assert all(distribution.refusal(value) == "" for value in drawn)
    if distribution.integer:
        assert set(drawn) == set(range(1, 10))
        assert drawn.count(1) > 3 * drawn.count(9)
    else:
        middle = 0.5 if not distribution.log else 10**-1.5
        assert 0.45 < sum(value < middle for value in drawn if isinstance(value, float)) / 2000 < 0.55


def test_choices_are_told_apart_by_kind() -> None:
    choices = Choices((1, "1", None, 0.5))
    assert [choices.refusal(value) for value in (1, "1", None, 0.5)] == [""] * 4
    assert all(choices.refusal(value) for value in (True, 1.0, "0.5", False, [1]))


def test_short_names_are_the_shortest_that_differ() -> None:
    assert short_names(["optimizer.lr", "task.width"]) == {"optimizer.lr": "lr", "task.width": "width"}
    assert short_names(["a.lr", "b.lr", "b.colr"]) == {"a.lr": "a.lr", "b.lr": "b.lr", "b.colr": "colr"}
    assert short_names(["x", "a.x"]) == {"x": "x", "a.x": "a.x"}
