import math
from pathlib import Path

import pytest

from ristune.errors import InputError
from ristune.tracking import TrackingConfig, resolve_mode, track


def config(mode):
    return TrackingConfig(mode=mode, project="test", entity=None)


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
    # The service that writes it flushes when it ends: one that lives on may still hold the last rows.
    lists = Path("/proc/self/task").glob("*/children")
    children = [pid for children in lists for pid in children.read_text().split()]
    assert not [pid for pid in children if "wandb" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_disabled_run_leaves_nothing(tmp_path):
    with track(config("disabled"), tmp_path / "none", name="t", group="g", values={}, resolved={}) as run:
        run.log({"objective": 0.5}, step=1)
        run.finish({})
    assert not (tmp_path / "none").exists()


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="tracking.mode: got 'shout'; it must be one of auto, online"):
        config("shout")
