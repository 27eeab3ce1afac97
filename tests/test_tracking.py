import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from ristune.errors import InputError
from ristune.tracking import TrackingConfig, end_service, resolve_mode, track
from tests.wandb_file import records


def config(mode):
    return TrackingConfig(mode=mode, project="test", entity=None)


def services():
    """W&B's services that this process has started and that have not ended."""
    lists = Path("/proc/self/task").glob("*/children")
    children = [pid for children in lists for pid in children.read_text().split()]
    return [int(pid) for pid in children if "wandb" in Path(f"/proc/{pid}/cmdline").read_text()]


def follow_in(folder, end=lambda: None):
    """Track one of several runs of this process, of three rows; gives its records as it ends."""
    labels = {"name": folder.name, "group": "g", "values": {"a.b": 1}, "resolved": {"a": {"b": 1}}}
    with track(config("offline"), folder, **labels, more_follow=True) as tracked:
        for step in (1, 2, 3):
            tracked.log({"objective": 1 / step}, step=step)
        end()
        tracked.finish({"state": "complete"})
    return written(folder)


def written(folder):
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return records(file)


@pytest.fixture
def follow(tmp_path):
    yield lambda name, *end: follow_in(tmp_path / name, *end)
    end_service()


def test_auto_is_online_with_a_key_and_offline_without(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert resolve_mode("auto") == "offline"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password x\n")
    assert resolve_mode("auto") == "online"
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode("auto") == "online"
    assert resolve_mode("disabled") == "disabled"


def test_an_offline_run_leaves_its_file(tmp_path):
    with track(
        config("offline"), tmp_path, name="t1", group="g", values={"a.b": 1}, resolved={"a": {"b": 1}}
    ) as run:
        run.log({"objective": 0.5, "val/x": math.nan, "reason": ""}, step=1)
        run.finish({"objective": 0.5})
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"objective" in file.read_bytes()
    assert [record.WhichOneof("record_type") for record in records(file)][-1] == "exit"
    assert not services()


def test_runs_that_follow_one_another_share_a_service_and_each_is_whole_when_it_ends(follow):
    # Of so many, some would be read before their last rows are there, were nobody to wait for these.
    for number in range(40):
        kinds = [record.WhichOneof("record_type") for record in follow(f"t{number}")]
        assert (kinds.count("history"), kinds[-1]) == (3, "exit")
        assert services() == ([first := services()[0]] if number == 0 else [first])
    end_service()
    assert not services()
    end_service()


def test_a_run_that_an_exception_ends_is_marked_as_failed_and_whole(follow, tmp_path):
    def fail():
        raise RuntimeError("planted failure")

    with pytest.raises(RuntimeError, match="planted failure"):
        follow("t1", fail)
    assert written(tmp_path / "t1")[-1].exit.exit_code == 1
    # The service is sound, and lives on.
    (service,) = services()
    follow("t2")
    assert services() == [service]


def outlive_services(folder):
    """Lose a service in the midst of a run, then one between two runs; the runs that follow are whole."""

    def die():
        os.kill(services()[0], signal.SIGKILL)

    with pytest.raises(ConnectionError):
        follow_in(folder / "0", die)
    assert follow_in(folder / "1")[-1].WhichOneof("record_type") == "exit"
    die()
    with pytest.raises(ConnectionError):
        follow_in(folder / "2")
    assert follow_in(folder / "3")[-1].WhichOneof("record_type") == "exit"
    end_service()
    assert not services()


def test_a_service_that_dies_costs_the_run_that_needs_it_and_not_the_next(tmp_path):
    # In a process of its own: W&B keeps what is left of such a service.
    child = multiprocessing.get_context("spawn").Process(target=outlive_services, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_a_disabled_run_leaves_nothing(tmp_path):
    with track(config("disabled"), tmp_path / "none", name="t", group="g", values={}, resolved={}) as run:
        run.log({"objective": 0.5}, step=1)
        run.finish({})
    assert not (tmp_path / "none").exists()


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="tracking.mode: got 'shout'; it must be one of auto, online"):
        config("shout")
