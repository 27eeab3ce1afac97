import json

import pytest

from ristune.config import Config, compose, restore
from ristune.errors import InputError
from ristune.sweep.space import Choices, Parameter, Range
from ristune.sweep.space_parsing import parse_space

LR = {"low": 1e-4, "high": 1e-2, "log": True}
QUICK = ["optimizer.lr", "task.network.width", "training.batch_size"]
WHOLE = "space={optimizer.lr:{low:1e-4,high:1e-2,log:true},training.batch_size:{choices:[32,64]}}"
ENTRY = "space.optimizer.lr={low:1e-4,high:1e-2,log:true}"
NEW = "space.optimizer.beta2={low: 0.9, high: 0.99}"


def test_a_space_on_the_command_line_takes_the_place_of_the_chosen_one():
    config = compose([WHOLE])
    assert config.space == {"optimizer.lr": LR, "training.batch_size": {"choices": [32, 64]}}
    assert parse_space(config).parameters == {
        "optimizer.lr": Parameter(Range(1e-4, 1e-2, log=True)),
        "training.batch_size": Parameter(Choices((32, 64))),
    }


def test_an_entry_changes_adds_or_takes_out_one_path():
    assert list(compose().space) == QUICK
    changed = compose([ENTRY]).space
    assert changed["optimizer.lr"] == LR and list(changed) == QUICK
    assert list(compose([NEW]).space) == [*QUICK, "optimizer.beta2"]
    assert list(compose(["space.optimizer.lr=null"]).space) == QUICK[1:]
    assert list(compose([NEW, "space.optimizer.beta2=null"]).space) == QUICK
    assert compose([ENTRY, "space.optimizer.lr={choices:[0.1]}"]).space["optimizer.lr"] == {"choices": [0.1]}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("base", ["space=wide", WHOLE])
def test_entries_change_the_chosen_space_wherever_they_stand(base, order):
    untouched = compose([base]).space
    changed = compose([base, ENTRY, NEW][::order]).space
    assert changed == {**untouched, "optimizer.lr": LR, "optimizer.beta2": {"low": 0.9, "high": 0.99}}


def test_of_two_spaces_the_last_one_counts():
    assert list(compose([WHOLE, "space=quick"]).space) == QUICK
    assert compose(["space=wide", WHOLE]).space == compose([WHOLE]).space


def test_conditions_and_constraints_are_given_like_entries():
    texts = [
        "training.batch_size * task.network.width <= 4096",
        "optimizer.schedule != 'plateau' or seed == 0",
    ]
    quoted = ", ".join("'" + text.replace("'", "\\'") + "'" for text in texts)
    overrides = [
        "space.optimizer.schedule={choices:[cosine,plateau]}",
        "space.optimizer.plateau_factor={low:0.1,high:0.5,when:{optimizer.schedule:plateau}}",
        f"space.constraints=[{quoted}]",
    ]
    space = parse_space(compose(overrides))
    assert space.parameters["optimizer.plateau_factor"].when == {"optimizer.schedule": ("plateau",)}
    assert space.constraints == tuple(texts)
    assert parse_space(compose([*overrides, "space.constraints=null"])).constraints == ()


def test_a_group_that_the_command_line_makes_can_be_searched_inline():
    group = "optimizer.groups={heads: {match: ['head.*'], lr: 0.1}}"
    config = compose(["space.optimizer.groups.heads.lr={low:0.01,high:0.1}", group])
    assert "optimizer.groups.heads.lr" in parse_space(config).parameters


@pytest.mark.parametrize("overrides", [[WHOLE], [ENTRY, NEW, "space.training.batch_size=null"]])
def test_what_is_stored_is_the_space_that_was_asked_for(overrides):
    config = compose(overrides)
    again = restore(json.loads(json.dumps(config.source)), ["data.mode=auto"], config.config_dirs)
    assert again.space == config.space and parse_space(again) == parse_space(config)
    assert compose(config.overrides, config.config_dirs).space == config.space
    assert config.resolved()["space"] == config.space
    assert config.with_values({"optimizer.lr": 0.5}).space == config.space


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "space.optimizer.lrr={low:1,high:2}",
            "'optimizer.lrr' must be a path .*did you mean 'space.optimizer.lr'",
        ),
        ("space.optimizer.lr.low=1e-3", "did you mean 'space.optimizer.lr'"),
        (
            "space.optimizer.lrr=null",
            "must be in the space to be taken out; did you mean 'space.optimizer.lr'",
        ),
        ("space.optimizer.beta1=null", "must be in the space to be taken out"),
        ("space.optimizer.lr=0.1", r"got 0.1; it must be \{low: A, high: B\}"),
        # As a shell leaves it that was not told to keep the braces.
        ("space.optimizer.lr=low:1e-4", r"quote it in a shell: 'space.PATH=\{...\}'"),
        ("space=optimizer.lr:low:1e-4", r"it must be one of .*; quote it, for a shell takes braces apart"),
        ("space=null", "it must be the name of a space, or"),
        ("space=[quick]", "it must be the name of a space, or"),
        ("space=narow", "it must be one of narrow, quick, wide; give the folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(override, message):
    with pytest.raises(InputError, match=message):
        compose([override])


@pytest.mark.parametrize(
    "override", ["space={}", "space={optimizer.lr:{low:1,hihg:2}}", "space={lr:{low:1,high:2}}"]
)
def test_an_inline_space_is_checked_as_any_other(override):
    config: Config = compose([override])
    with pytest.raises(InputError, match="^space"):
        parse_space(config)
