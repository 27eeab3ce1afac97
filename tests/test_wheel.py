"""An installed wheel is whole: it finds its YAML groups without the checkout."""

import site
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.wheel


def run(*command, cwd):
    return subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A fresh environment with the wheel; its dependencies are those of the tests' own environment."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("ristune-*.whl")
    made = run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    assert made.returncode == 0, made.stderr
    fresh = folder / "env" / "bin" / "python"
    installed = run(fresh, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    where = run(fresh, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).stdout.strip()
    # A path in a .pth file is searched, its own .pth files are not: the editable checkout stays out.
    (Path(where) / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return fresh


def test_the_package_comes_from_the_wheel_and_knows_its_configs(python, tmp_path):
    script = "import ristune, ristune.config as c; print(ristune.__file__); print(c.config_dir())"
    shown = run(python, "-c", script, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    package, configs = (Path(line) for line in shown.stdout.split())
    assert ROOT not in package.parents and configs == package.parent / "configs"
    assert (configs / "task" / "nearfield.yaml").is_file()


def test_a_dry_run_of_the_default_sweep_works_from_the_wheel(python, tmp_path):
    shown = run(python, "-m", "ristune.sweep", "--trials", "6", "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "optimizer.lr" in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_console_script_is_installed(python, tmp_path):
    shown = run(python.parent / "ristune", "train", "--show-config", cwd=tmp_path)
    assert shown.returncode == 0 and "task:" in shown.stdout
