"""What is checked and built before a cluster is touched."""

import re
import shlex

import pytest

from ristune import cli
from ristune.cluster.launcher import read_cluster
from ristune.cluster.luggage import Luggage
from ristune.sweep import command, submit
from ristune.sweep.order import below, check_options, order, resumption, travelling
from tests.cluster.files import cloud, write
from tests.integration.sweeps import CONFIGS

STORE = ("output=s3://bucket/runs", "data.uri=s3://bucket/data")
TOY = ("task=toy", "space=toy", "--config-dir", str(CONFIGS))


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path, cloud())


@pytest.fixture
def nothing_starts(monkeypatch):
    def never(*_):
        raise AssertionError("the cluster was touched")

    for name in ("find_head", "start", "reach"):
        monkeypatch.setattr(submit, name, never)


def words(file, *argv, trials=200):
    arguments = command._parser().parse_intermixed_args(["--cluster", str(file), *argv])
    check_options(arguments)
    return order(arguments, cli.configure(arguments), read_cluster(file), "wide", trials).words


def test_overrides_are_passed_on_as_they_were_given(file):
    given = ("task=toy", *STORE, "space.optimizer.lr={low: 1e-4, high: 1e-1, log: true}", "training.epochs=7")
    passed = words(file, "--config-dir", str(CONFIGS), *given, "space=toy")
    assert passed[:4] == ("--name", "wide", "--trials", "200")
    assert passed[4:-2] == (*given, "space=toy")


def test_what_is_left_to_the_cluster_is_read_from_its_file(file):
    assert words(file, *TOY, *STORE)[-2:] == ("training.device=cuda", "sweep.concurrency=12")
    assert words(file, *TOY, *STORE, "sweep.gpu_per_trial=0.5", trials=20)[-1] == "sweep.concurrency=20"


def test_what_the_user_says_stands(file):
    given = ("training.device=cpu", "sweep.concurrency=3")
    assert words(file, *TOY, *STORE, *given)[-2:] == given


def test_a_resumption_takes_the_uri_as_it_is(file):
    uri = "s3://bucket/runs/wide?endpoint=http://10.0.0.9:7480"
    argv = ["--cluster", str(file), "--resume", uri, "--trials", "400", "sweep.concurrency=4"]
    what = resumption(command._parser().parse_intermixed_args(argv))
    assert what.name == "wide" and what.output == uri
    assert what.words == ("--resume", uri, "--trials", "400", "sweep.concurrency=4")


def test_a_sweeps_folder_keeps_the_settings_of_a_uri():
    assert below("s3://b/runs?region=x", "a") == "s3://b/runs/a?region=x"
    assert below("/shared/runs/", "a") == "/shared/runs/a"


def test_files_that_are_named_travel_and_are_named_as_they_are_called_there(file, tmp_path):
    (tmp_path / "best.yaml").write_text("optimizer.lr: 0.01\n")
    argv = ["--cluster", str(file), *TOY, *STORE, "--enqueue", "best.yaml"]
    arguments = command._parser().parse_intermixed_args(argv)
    what = order(arguments, cli.configure(arguments), read_cluster(file), "wide", 5)
    (tmp_path / "links").mkdir()
    there = travelling(Luggage(tmp_path / "links", tmp_path), what)
    assert there[::2] == ["--config-dir", "--enqueue"]
    assert (tmp_path / "links" / there[1] / "task" / "toy.yaml").is_file()
    assert (tmp_path / "links" / there[3]).read_text() == "optimizer.lr: 0.01\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--attach wide", "--attach: .*which cluster is meant"),
        ("--down", "--down: .*which cluster is meant"),
        ("--cluster FILE --attach a --stop b", "--stop: .*does not go with --attach"),
        ("--cluster FILE --address auto", "--address: .*leave out --address or --cluster"),
        ("--cluster none.yaml", "--cluster: .*No such file"),
        ("--cluster FILE --resume s3://b/runs/a --name b", "--name: .*leave out --name"),
        ("--cluster FILE TOY data.uri=s3://b/d", "output: .*in an object store, or in a folder that all"),
        ("--cluster FILE TOY output=s3://b/r data.uri=d", "data.uri: .*in an object store, or in a folder"),
        ("--cluster FILE TOY --shared output=runs data.uri=/d", "output: .*the same absolute path on each"),
        ("--cluster FILE TOY STORE --name a/b", "--name: .*letters, digits"),
        ("--cluster FILE TOY STORE training.epoch=3", "training.epoch.*did you mean 'training.epochs'"),
        (
            "--cluster FILE TOY STORE space.task.depth={low:1,high:2}",
            "'task.depth' must be a path of the conf",
        ),
        ("--cluster FILE TOY STORE sweep.cpus_per_trial=9", "no node of the cluster file carries a trial"),
    ],
)
def test_bad_input_is_refused_before_anything_is_started(file, nothing_starts, argv, message, capsys):
    known = {"FILE": [str(file)], "TOY": list(TOY), "STORE": list(STORE)}
    status = command.main([text for word in shlex.split(argv) for text in known.get(word, [word])])
    assert status == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_dry_run_shows_what_the_cluster_would_carry(file, nothing_starts, capsys):
    assert (
        command.main(["--cluster", str(file), *TOY, *STORE, "--trials", "50", "--name", "a", "--dry-run"])
        == 0
    )
    out = capsys.readouterr().out
    assert (
        "resources: 12 at once, each with 1 of 12 cores and 1 of 12 GPUs\nfolder: s3://bucket/runs/a" in out
    )


def test_a_name_whose_results_are_here_already_is_refused(file, nothing_starts, tmp_path, capsys):
    (tmp_path / "runs" / "wide" / "journal").mkdir(parents=True)
    (tmp_path / "runs" / "wide" / "journal" / "events.jsonl").touch()
    assert command.main(["--cluster", str(file), *TOY, *STORE, "--name", "wide"]) == 2
    assert "runs/wide, where its results are to be, is a sweep already" in capsys.readouterr().err
