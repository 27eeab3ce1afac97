"""The image's file and the shell scripts: linted, and of the versions that CI runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCKERFILE = ROOT / "cluster" / "Dockerfile"
SCRIPTS = ["cluster/aws/create.sh", "cluster/slurm/sweep.sbatch"]


def lint(tool, path):
    return subprocess.run([BIN / tool, path], capture_output=True, text=True, timeout=60, check=False)


def test_the_dockerfile_is_linted():
    done = lint("hadolint", DOCKERFILE)
    assert done.returncode == 0, done.stdout


def test_a_bad_dockerfile_is_found(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text().replace("3.11.14-slim-bookworm", "latest"))
    assert "DL3007" in lint("hadolint", bad).stdout


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_are_checked(path):
    done = lint("shellcheck", ROOT / path)
    assert done.returncode == 0, done.stdout


def test_a_bad_script_is_found(tmp_path):
    bad = tmp_path / "bad.sh"
    bad.write_text('#!/bin/bash\nrm -r "$HOME"/$1\n')
    assert "SC2086" in lint("shellcheck", bad).stdout


def test_every_shell_script_of_the_folder_is_checked():
    found = {path for path in (ROOT / "cluster").rglob("*") if path.suffix in (".sh", ".sbatch")}
    assert {str(path.relative_to(ROOT)) for path in found if "testbed" not in path.parts} == set(SCRIPTS)


def commands(path):
    text = path.read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_the_image_has_the_versions_of_the_constraints():
    text = DOCKERFILE.read_text()
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    installs = [part for line in commands(DOCKERFILE) for part in line.split("&&") if "pip" in part]
    for part in installs:
        from_pins = "--constraint constraints.txt" in part or "--requirements /tmp/all.txt" in part
        # uv itself is no part of what is installed.
        assert from_pins or re.search(r"pip install --no-cache-dir uv==[\d.]+\s*$", part), part
    assert "--constraint constraints.txt --extra cluster --extra gcp --output-file /tmp/all.txt" in text
    for name, version in re.findall(r"([\w-]+)==([\w.]+)", text):
        assert name == "uv" or pins[name] == version, name


def test_one_uv_and_one_python_are_used_everywhere():
    files = [DOCKERFILE, ROOT / "ray_cluster.yaml", *(ROOT / "cluster").glob("*.yaml")]
    assert len({version for path in files for version in re.findall(r"uv==([\d.]+)", path.read_text())}) == 1
    pythons = re.findall(r"FROM python:(\d+\.\d+)\.", DOCKERFILE.read_text())
    for path in files[1:]:
        pythons += re.findall(r"--python (3\.\d+)", path.read_text())
    assert set(pythons) == {"3.11"}


def test_the_image_runs_without_root_and_demands_the_token():
    last = DOCKERFILE.read_text().rpartition("FROM ")[2]
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["1000"]
    assert "RAY_AUTH_MODE=token" in last
