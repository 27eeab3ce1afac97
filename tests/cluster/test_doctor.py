from functools import cache
from pathlib import Path

import pytest
import yaml

from ristune import cli
from ristune.cluster.checks.registry import RULES
from ristune.config import compose
from ristune.doctor.__main__ import main
from tests.cluster.mistakes import MISTAKES, ON_PREMISES, TYPES
from tests.cluster.plant import AFAR, OWN_HOSTS, SWEEP, document, examine, faults, put

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _home_with_a_token(tmp_path, monkeypatch):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def _composed_once(monkeypatch):
    """The same command line gives the same configuration, and takes a second to."""
    monkeypatch.setattr(cli, "configure_from", lambda given: (_composed(tuple(given.overrides)), []))


@cache
def _composed(overrides):
    return compose(list(overrides), [])


@pytest.fixture
def written(tmp_path):
    """Write a changed copy of a file."""

    def write(found):
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump(found, sort_keys=False))
        return path

    return write


@pytest.mark.parametrize(
    ("check", "verdict", "place", "plant"), MISTAKES, ids=[f"{n}-{m[0]}" for n, m in enumerate(MISTAKES)]
)
def test_a_mistake_is_named_by_its_place_and_nothing_else_is(check, verdict, place, plant, written, capsys):
    found = document()
    plant(found)
    status, rows = examine(capsys, written(found), *SWEEP)
    assert [(row.check, row.verdict) for row in faults(rows)] == [(check, verdict)]
    assert faults(rows)[0].text.startswith((f"{place}: got ", f"{place}: not given; "))
    assert status == int(verdict == "FAIL")
    # A row for each check: one that cannot look says so.
    assert [row.check for row in rows] == ["schema", *(rule.name for rule in RULES)]


@pytest.mark.parametrize(("check", "place", "plant"), ON_PREMISES)
def test_a_mistake_with_hosts_that_are_there_already_is_named(check, place, plant, written, capsys):
    found = document(OWN_HOSTS)
    plant(found)
    status, rows = examine(capsys, written(found), *SWEEP)
    assert status == 1 and [row.check for row in faults(rows)] == [check]
    assert faults(rows)[0].text.startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("override", "check", "place"),
    [
        ("sweep.concurrency=9", "concurrency", "sweep.concurrency"),
        ("sweep.cpus_per_trial=9", "concurrency", f"{TYPES}.gpu_on_demand.resources"),
        ("sweep.concurrency=2000", "concurrency", "sweep.concurrency"),
        ("output=s3://other/runs", "places", "output"),
        ("output=runs", "places", "output"),
        ("output=/shared/runs", "places", "output"),
        ("data.uri=data/nearfield", "places", "data.uri"),
    ],
)
def test_what_a_sweep_asks_for_is_held_against_the_file(override, check, place, written, capsys):
    _, rows = examine(capsys, written(document()), *SWEEP, override)
    assert {row.check for row in faults(rows)} == {check}
    assert faults(rows)[0].text.startswith(f"{place}: got ")


def test_trials_that_share_a_gpu_are_more_at_once(written, capsys):
    more = ["sweep.gpu_per_trial=0.5", "sweep.concurrency=16"]
    status, rows = examine(capsys, written(document()), *SWEEP, *more)
    assert status == 0 and faults(rows) == []
    assert next(row.text for row in rows if row.check == "concurrency").startswith(
        "16 trials at once at most"
    )


def test_a_folder_that_a_setup_command_mounts_may_be_the_output(written, capsys):
    found = document()
    found["setup_commands"].insert(0, "sudo mount -t nfs4 fs-1.efs.us-east-1.amazonaws.com:/ /shared")
    _, rows = examine(capsys, written(found), *SWEEP, "output=/shared/runs")
    assert faults(rows) == []


def test_a_disk_that_is_smaller_than_the_dataset_is_named(toy_dataset, written, capsys):
    found = document()
    sound = written(found)
    here = [*SWEEP, f"data.uri={toy_dataset}", "--only", "cache-disk"]
    status, rows = examine(capsys, sound, *here)
    assert status == 0 and rows[0].verdict == "pass" and toy_dataset in rows[0].text
    put(TYPES, "gpu_spot", "node_config", "BlockDeviceMappings", 0, "Ebs", {"VolumeSize": 30})(found)
    status, rows = examine(capsys, written(found), *here)
    place = f"{TYPES}.gpu_spot.node_config.BlockDeviceMappings[0].Ebs.VolumeSize"
    assert status == 1 and [row.text.partition(": ")[0] for row in faults(rows)] == [place]
    assert examine(capsys, written(found), *here, "data.mode=windowed")[0] == 0


def test_a_bound_of_the_cache_below_the_dataset_is_named(toy_dataset, written, capsys):
    more = [f"data.uri={toy_dataset}", "data.cache_disk_gb=0.000001", "--only", "cache-disk"]
    status, rows = examine(capsys, written(document()), *SWEEP, *more)
    assert status == 1 and [row.text.partition(": ")[0] for row in faults(rows)] == ["data.cache_disk_gb"]


def is_ray_cluster(path):
    """A file of `ray up`, with the bucket that its nodes are checked for; others are other tools'."""
    found = list(yaml.safe_load_all(path.read_text()))[0]
    return isinstance(found, dict) and {"cluster_name", "provider", "metadata"} <= found.keys()


FOLDERS = (ROOT, ROOT / "cluster")
SHIPPED = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml")) if is_ray_cluster(path)]


@pytest.mark.parametrize("path", SHIPPED, ids=[str(path.relative_to(ROOT)) for path in SHIPPED])
@pytest.mark.parametrize("asked", [False, True], ids=["alone", "with-a-sweep"])
def test_nothing_is_found_in_a_shipped_file(path, asked, capsys):
    bucket = yaml.safe_load(path.read_text())["metadata"]["bucket"]
    sweep = [f"output={bucket}/runs", AFAR, "training.device=cuda", "sweep.concurrency=2"]
    status, rows = examine(capsys, path, *(sweep if asked else ()))
    assert faults(rows) == [] and status == 0
    assert rows[0].verdict == "pass"


def test_a_token_that_is_not_made_yet_is_said(tmp_path, written, capsys):
    (tmp_path / ".ray/auth_token").unlink()
    status, rows = examine(capsys, written(document()), "--only", "token")
    assert status == 0 and "none here yet: `ray get-auth-token --generate`" in rows[0].text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cluster", "nowhere.yaml"], "--cluster: got 'nowhere.yaml'; it cannot be read"),
        (["--cluster", "pyproject.toml"], "--cluster: got 'pyproject.toml'; it must be YAML"),
        (["--cluster", "configs/config.yaml"], "it must be a Ray cluster file"),
        (["--live"], "--live: got True; it goes with --cluster"),
        (["--cluster", "ray_cluster.yaml", "--address", "auto"], "--address: got 'auto'; a file is checked"),
        (
            ["--cluster", "ray_cluster.yaml", "--only", "gradients"],
            "--only: got 'gradients'; it must be one of",
        ),
        (["--cluster", "ray_cluster.yaml", "sweep.concurency=3"], "did you mean 'sweep.concurrency'?"),
        (["--cluster", "ray_cluster.yaml", "--replay", "runs"], "--cluster: got"),
    ],
)
def test_bad_input_is_refused(arguments, text, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert text in captured.err and len(captured.err.splitlines()) == 1 and captured.out == ""


def test_list_names_the_checks_of_a_cluster(capsys):
    assert main(["--cluster", "ray_cluster.yaml", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[0] == "schema" and {rule.name for rule in RULES} < set(names) and "clock" in names
