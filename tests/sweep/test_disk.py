"""Trials on a disk that is full: a small file system of its own, where the tests may mount one."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ristune import trial
from ristune.sweep.lock import locked
from ristune.training import checkpoint, resume
from tests.sweep.actors import Actor, MakeActor, values_of

KIB = 1 << 10
# A network whose weights alone are more than the disk holds.
LARGE = 100_000


class Disk:
    """A file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Take all the room there is."""
        with (self.folder / "filler").open("wb", buffering=0) as file:
            for size in (64 * KIB, KIB, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def empty(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    mounted: list[Path] = []

    def make(folder: Path = tmp_path / "disk", size: str = "768k") -> Disk:
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("these tests may not mount a file system")
        mounted.append(folder)
        return Disk(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(autouse=True)
def _every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    # A state at the end of each epoch, however short it is.
    monkeypatch.setattr(trial, "KEEPING_SHARE", 1e9)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def test_a_checkpoint_that_a_disk_does_not_hold_fails_its_trial_and_no_other(
    mount: Callable[..., Disk], make_actor: MakeActor
) -> None:
    actor = make_actor(folder=mount().folder)
    [failed] = actor.run("0000", task__width=LARGE)
    assert (failed["status"], failed["certain"]) == ("failed", False)
    assert failed["reason"] == "OSError: [Errno 28] No space left on device"
    assert "while serializing" in (actor.folder / "trials" / "0000" / "error.txt").read_text()
    # What was half written takes no room from the next one.
    assert hidden(actor.folder) == []
    assert not (actor.folder / "trials" / "0000" / "best").exists()
    assert actor.run("0001")[-1]["status"] == "complete"
    assert checkpoint.load(actor.folder / "trials" / "0001" / "best")


def test_a_trial_goes_on_from_its_last_whole_state_when_there_is_room_again(
    mount: Callable[..., Disk], make_actor: MakeActor
) -> None:
    whole = values_of(make_actor("training.epochs=6").run("0000"))
    disk = mount()
    actor = make_actor("training.epochs=6", folder=disk.folder)
    before = []
    failed: dict[str, Any] = {}
    for result in actor.steps("0000"):
        if result["done"]:
            failed = result
        elif result["epoch"] == 3:
            disk.fill()
        before.append(result)
    assert failed["status"] == "failed" and "No space left" in failed["reason"]
    assert failed["warnings"] == ["error.txt could not be written: [Errno 28] No space left on device"]
    folder = disk.folder / "trials" / "0000"
    assert hidden(folder) == []
    # The state of the end of epoch 3 was not to be written: those before it are there.
    state = resume.newest(folder, pytest.fail).state
    assert state["training"]["progress"]["epoch"] == 3
    assert checkpoint.load(folder / "best").state["objective"] == failed["objective"]
    # The actor lives on, on the full disk too.
    [again] = actor.run("0001")
    assert again["status"] == "failed"
    disk.empty()
    assert values_of(actor.run("0000")) == whole[2:]
    assert actor.run("0001")[-1]["status"] == "complete"


def test_a_log_that_cannot_be_written_fails_no_trial(
    mount: Callable[..., Disk], make_actor: MakeActor
) -> None:
    disk = mount()
    actor = make_actor(folder=disk.folder)
    actor.run("0000", epochs=2)
    actor.worker.cleanup()
    log = disk.folder / "trials" / "0000" / "log.txt"
    log.symlink_to("/dev/full")
    second = Actor(actor.base, disk.folder)
    results = second.run("0000")
    assert results[-1]["status"] == "complete"
    assert results[0]["warnings"] == ["log.txt could not be written: [Errno 28] No space left on device"]


def test_a_lock_is_held_on_a_full_disk(mount: Callable[..., Disk]) -> None:
    disk = mount()
    disk.fill()
    with locked(disk.folder / "lock"):
        assert (disk.folder / "lock").read_text() == ""


def test_a_tracker_that_writes_to_a_full_disk_costs_no_trial(
    mount: Callable[..., Disk], make_actor: MakeActor
) -> None:
    actor = make_actor("tracking.mode=offline")
    disk = mount(actor.folder / "trials" / "0000" / "wandb", size="64k")
    disk.fill()
    results = actor.run("0000")
    assert results[-1]["status"] == "complete"
    [*_, last] = actor.run("0001")
    assert (last["status"], last["warnings"]) == ("complete", [])
    [run] = (actor.folder / "trials" / "0001" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"objective" in run.read_bytes()


@pytest.mark.parametrize("name", ["weights.safetensors", "training.safetensors", "state.json"])
def test_a_file_that_grows_too_large_at_any_place_leaves_no_half_checkpoint(
    make_actor: MakeActor, name: str
) -> None:
    # As on a disk with a quota, or a file system that is full: every write may be the one too much.
    actor = make_actor("training.epochs=4")
    actor.run("0000", epochs=2)
    folder = actor.folder / "trials" / "0000"
    [found, *_] = sorted(folder.rglob(name))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(found).st_size - 1, hard))
    try:
        failed = actor.worker.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed["status"] == "failed" and "File too large" in failed["reason"]
    assert hidden(folder) == []
    assert resume.newest(folder, pytest.fail).state["training"]["progress"]["epoch"] == 2
    assert [result["epoch"] for result in actor.run("0000")] == [2, 3, 4]
