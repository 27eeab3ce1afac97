import subprocess
import sys

import pytest
import torch

from ristune.cluster import node_check
from ristune.errors import InputError


def tool(tmp_path, monkeypatch, script):
    """A stand-in of NVIDIA's tool; it alone knows of GPUs on a machine without one."""
    path = tmp_path / "bin" / "nvidia-smi"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))


def test_a_bucket_is_written_read_and_left_as_it_was(tmp_path, capsys):
    assert node_check.main(["--bucket", str(tmp_path / "bucket")]) == 0
    assert "is read and written" in capsys.readouterr().out
    assert [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()] == []


def test_a_bucket_that_cannot_be_written_ends_with_its_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        node_check.main(["--bucket", str(tmp_path / "file" / "bucket")])


def test_a_bucket_that_gives_back_something_else_is_refused(tmp_path, monkeypatch):
    from ristune.storage.local import LocalStorage

    monkeypatch.setattr(LocalStorage, "read", lambda self, path: b"other")
    with pytest.raises(InputError, match="must give back what was written"):
        node_check.main(["--bucket", str(tmp_path)])


def test_the_bucket_is_that_of_the_cluster_file(tmp_path, capsys):
    file = tmp_path / "cluster.yaml"
    file.write_text(f"metadata: {{bucket: {tmp_path / 'here'}}}\n")
    assert node_check.main(["--cluster", str(file)]) == 0
    assert str(tmp_path / "here") in capsys.readouterr().out


@pytest.mark.parametrize("text", ["cluster_name: x\n", "metadata: {bucket: 3}\n", "[]\n"])
def test_a_cluster_file_without_a_bucket_is_refused(tmp_path, text):
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"metadata\.bucket.*set it at the top"):
        node_check.main(["--cluster", str(file)])


def test_nothing_to_check_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        node_check.main([])
    assert "nothing to check" in capsys.readouterr().err


def test_a_node_without_a_driver_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="nvidia-smi: got 'not found'; NVIDIA's driver must be installed"):
        node_check.gpus()


def test_a_driver_that_fails_is_refused_in_its_own_words(tmp_path, monkeypatch):
    tool(tmp_path, monkeypatch, "echo 'Driver/library version mismatch' >&2; exit 18")
    with pytest.raises(InputError, match="Driver/library version mismatch"):
        node_check.gpus()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gpus_that_torch_does_not_see_are_refused(tmp_path, monkeypatch):
    lines = "\\n".join(["NVIDIA A10G, 535.104"] * (torch.cuda.device_count() + 1))
    tool(tmp_path, monkeypatch, f"printf '{lines}\\n'")
    blind = "torch must be built for CUDA" if torch.version.cuda is None else "of the driver.*newer"
    with pytest.raises(InputError, match=blind):
        node_check.gpus()


def test_the_command_fails_loudly(tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "ristune.cluster.node_check", "--bucket", str(tmp_path / "file" / "x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
