import importlib
import inspect
import re

import pytest
import yaml

from ristune.config import build, compose, config_dir, restore
from ristune.data.config import DataConfig
from ristune.errors import InputError
from ristune.overrides import literal, typed
from ristune.sweep_config import SweepConfig
from ristune.tracking import TrackingConfig
from ristune.training.config import OptimizerConfig, TrainingConfig

TOY = ["task=toy", "space=toy"]
DIRS = ["tests/configs"]


def test_the_default_configuration_is_the_near_field_task():
    config = compose()
    assert config.task["name"] == "nearfield"
    assert config.simulator["_target_"] == "ristune.nearfield.simulator.NearFieldSimulator"
    assert config.data.uri == "data/nearfield"
    assert config.training.objective == "map_error"


def test_a_users_own_groups_are_found_in_their_folder():
    config = compose(TOY, DIRS)
    assert config.task["width"] == 16 and config.simulator["noise"] == 0.1
    assert config.data.uri == "data/toy" and config.training.objective == "mse"


def test_a_task_without_a_simulator_has_none(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text("_target_: tests.toy.ToyTask\nname: mine\nobjective: mse\n")
    assert compose(["task=mine"], [tmp_path]).simulator is None


def test_command_line_values_win_and_the_last_one_counts():
    assert compose(["optimizer.lr=0.1", "optimizer.lr=2e-3"]).optimizer.lr == 0.002


def test_a_trials_values_reach_every_place_that_refers_to_them():
    config = compose().with_values({"task.geometry.rows": 8, "optimizer.lr": 0.5})
    assert config.optimizer.lr == 0.5
    assert config.simulator["geometry"]["rows"] == 8


def test_a_trials_values_leave_the_configuration_as_it_was():
    config = compose()
    before = config.resolved()
    config.with_values({"optimizer.lr": 0.5})
    assert config.resolved() == before


def test_a_trials_values_are_checked_too():
    with pytest.raises(InputError, match="did you mean 'optimizer.lr'"):
        compose().with_values({"optimizer.lrr": 0.5})
    with pytest.raises(InputError, match="training.epochs: got 'many'"):
        compose().with_values({"training.epochs": "many"})


def test_the_resolved_configuration_has_no_references_left():
    resolved = compose().resolved()
    assert resolved["simulator"]["geometry"]["rows"] == 12
    assert "${" not in yaml.safe_dump(resolved)


def test_overrides_and_values_reproduce_the_trial():
    values = {"optimizer.lr": 0.012345678901234567, "task.width": 4, "task.explode": True}
    trial = compose(TOY, DIRS).with_values(values)
    assert compose(trial.overrides, trial.config_dirs).resolved() == trial.resolved()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=1", "'optimizer.learning_rate'.*path of the configuration; did you mean"),
        ("trainin.epochs=1", "did you mean 'training.epochs'"),
        ("training.epochs=ten", "training.epochs: got 'ten'; it must be of the kind integer"),
        ("training.epochs=1.5", "it must be of the kind integer"),
        ("training.epochs=true", "it must be of the kind integer"),
        ("task.network=3", "it must be of the kind mapping"),
        ("task.network.width=wide", "task.network.width: got 'wide'; it must be of the kind integer"),
        ("training.epochs=0", "training.epochs: got 0; it must be at least 1"),
        ("training.precision=fp8", "training.precision: got 'fp8'; it must be one of auto, bf16, fp16, fp32"),
        ("optimizer.lr=-1", "optimizer.lr: got -1"),
        ("sweep.reduction=1", "sweep.reduction: got 1; it must be at least 2"),
        ("tracking.mode=loud", "tracking.mode: got 'loud'; it must be one of auto"),
        ("task=unknown", "task: got 'unknown'; it must be one of nearfield; .*--config-dir"),
        ("seed=-1", "seed: got -1"),
        ("sweep.seed=-1", "sweep.seed: got -1"),
        ("+training.more=1", "it must set one existing path to one value"),
        ("~training.epochs", "it must set one existing path to one value"),
        ("optimizer.lr=1,2", "it must set one existing path to one value"),
        ("no equals sign", "it must read path=value or group=choice"),
    ],
)
def test_overrides_that_cannot_be_meant_are_refused(override, message):
    with pytest.raises(InputError, match=message):
        compose([override])


def test_a_configuration_folder_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="--config-dir: got 'nowhere'; it must be a folder"):
        compose([], ["nowhere"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lr: 0.1\n", "optimizer.beta1: got None; it must be one of"),
        ("momentum: 0.9\n", "optimizer.momentum: got 0.9; it must be one of"),
    ],
)
def test_a_users_group_with_missing_or_unknown_keys_is_refused(tmp_path, content, message):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        compose(["optimizer=mine"], [tmp_path])


def test_a_target_that_cannot_be_built_is_refused_with_its_cause():
    with pytest.raises(InputError, match="_target_: got 'tests.toy.NoTask'; .*importable"):
        build({"_target_": "tests.toy.NoTask", "name": "toy", "objective": "mse"})
    with pytest.raises(InputError, match="unexpected keyword argument 'depth'"):
        build({"_target_": "tests.toy.ToyTask", "width": 4, "scale": 1.0, "depth": 3})


def test_an_exception_of_the_tasks_own_code_is_not_taken_for_bad_input(tmp_path, monkeypatch):
    (tmp_path / "cursed.py").write_text(
        "class Task:\n    def __init__(self):\n        raise OSError('cursed')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exception, match="cursed") as caught:
        build({"_target_": "cursed.Task"})
    assert not isinstance(caught.value, InputError) and isinstance(caught.value.__cause__, OSError)


def test_yaml_that_cannot_be_read_is_bad_input(tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "broken.yaml").write_text("optimizer.lr: [1, 2\n")
    with pytest.raises(InputError, match="it must compose .*broken.yaml"):
        compose(["space=broken"], [tmp_path])


def test_a_value_the_task_refuses_keeps_its_own_message():
    config = compose(["task.beta=2.0"])
    with pytest.raises(InputError, match=r"^task.beta: got 2.0; it must be in \[0, 1\]"):
        build(config.task)


def test_every_default_stands_in_one_yaml_file():
    """The typed sections carry no defaults of their own: a value has one home."""
    from dataclasses import MISSING, fields

    config = compose()
    for section in (config.data, config.training, config.optimizer, config.sweep, config.tracking):
        assert all(f.default is MISSING and f.default_factory is MISSING for f in fields(section))


def test_every_yaml_file_of_ours_composes():
    for group in sorted(p for p in config_dir().iterdir() if p.is_dir()):
        for choice in sorted(group.glob("*.yaml")):
            assert yaml.safe_load(choice.read_text())
            compose([f"{group.name}={choice.stem}"])


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a/b?endpoint=http://127.0.0.1:7480&region=eu-central-1&anonymous=true&deadline=60",
        "gs://bucket?deadline=5",
    ],
)
def test_a_uri_with_settings_is_typed_as_it_is(uri):
    config = compose([f"data.uri={uri}"])
    assert config.data.uri == uri
    assert compose([f"data.uri={literal(uri)}"]).data.uri == uri
    assert typed("data.uri", uri) == f"data.uri={uri}"
    assert compose(config.overrides).data.uri == uri
    assert restore(config.source, [f"data.uri={uri}"], ()).data.uri == uri
    assert config.with_values({"data.uri": uri}).overrides[-1] == f"data.uri={literal(uri)}"


@pytest.mark.parametrize("uri", ["data/near", "a b/c", "o'neill", "s3://bucket/a", "null", "5", "a=b"])
def test_what_is_printed_to_be_typed_is_read_as_it_was(uri):
    assert compose([typed("data.uri", uri)]).data.uri == uri


def test_a_uri_with_settings_may_refer_to_other_values():
    assert (
        compose(["data.uri=s3://bucket/${task.name}?deadline=5"]).data.uri
        == "s3://bucket/nearfield?deadline=5"
    )


def signatures():
    """What takes values of the configuration: its sections, and every class that a YAML names."""
    yield from (TrainingConfig, OptimizerConfig, DataConfig, SweepConfig, TrackingConfig)
    for path in config_dir().rglob("*.yaml"):
        for target in re.findall(r"_target_: ([\w.]+)", path.read_text()):
            module, _, name = target.rpartition(".")
            yield getattr(importlib.import_module(module), name)


def test_a_value_has_its_default_in_the_yaml_and_nowhere_else():
    found = {
        f"{cls.__name__}.{name}"
        for cls in signatures()
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert found == set()
    assert len(list(signatures())) > 10


def test_a_mapping_that_is_empty_by_default_takes_any_names_and_the_last_one_wins():
    filters = ["data.filter={snr_db: [10, null]}", "data.filter={num_sources: [1, 2]}"]
    config = compose([filters[0]])
    assert config.data.filter == {"snr_db": [10, None]}
    assert compose(filters).data.filter == {"num_sources": [1, 2]}
    assert compose(config.overrides).data.filter == {"snr_db": [10, None]}
    assert restore(config.source, [], ()).data.filter == {"snr_db": [10, None]}
    assert compose(["data.filter={}"]).data.filter == {}
    groups = compose(["optimizer.groups={heads: {match: ['leave.*'], lr: 0.1}}"]).optimizer.groups
    assert groups == {"heads": {"match": ["leave.*"], "lr": 0.1}}
    with pytest.raises(InputError, match="data.filter: got 3; it must be of the kind mapping"):
        compose(["data.filter=3"])


def test_a_group_that_the_command_line_makes_can_be_searched():
    config = compose(["optimizer.groups={heads: {match: ['leave.*'], lr: 0.1}}"])
    changed = config.with_values({"optimizer.groups.heads.lr": 0.5})
    assert changed.optimizer.groups["heads"]["lr"] == 0.5
    assert compose(changed.overrides).optimizer.groups["heads"]["lr"] == 0.5


def test_what_a_trial_leaves_alone_is_the_sweeps_and_what_follows_from_its_values_is_its_own():
    base = compose()
    trial = base.with_values({"task.objective": "another", "optimizer.lr": 0.5})
    assert trial.data is base.data and trial.sweep is base.sweep
    # By interpolation.
    assert (trial.training.objective, trial.optimizer.lr) == ("another", 0.5)
    assert base.with_values({"training.clip_norm": 2}).training.clip_norm == 2.0
    with pytest.raises(InputError, match="optimizer.lr"):
        trial.with_values({"optimizer.lr": -1.0})


def test_what_is_done_to_a_resolved_configuration_is_not_done_to_the_next():
    config = compose()
    config.resolved()["task"]["objective"] = "another"
    assert config.resolved()["task"]["objective"] == config.task["objective"] != "another"
