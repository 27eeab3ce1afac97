import os
import zipfile

import pytest

from ristune.cluster import luggage
from ristune.cluster.luggage import Luggage
from ristune.errors import InputError


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    for name in (
        "mine.py",
        "lib/data/part.py",
        "data/big.parquet",
        "runs/old/summary.json",
        ".venv/lib.py",
        ".git/HEAD",
        "secret.txt",
        "lib/__pycache__/part.pyc",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / ".gitignore").write_text("secret.txt\n")
    return folder


@pytest.fixture
def packed(tmp_path, here):
    (tmp_path / "links").mkdir()
    return Luggage(tmp_path / "links", here)


def names(packed, tmp_path):
    with zipfile.ZipFile(packed.pack(tmp_path / "all.zip")) as archive:
        return set(archive.namelist())


def test_code_travels_and_data_results_environments_and_ignored_files_do_not(packed, tmp_path):
    found = names(packed, tmp_path)
    theirs = {name for name in found if not name.startswith("ristune/")}
    assert theirs == {"mine.py", "lib/data/part.py", ".gitignore"}


def test_the_package_that_runs_here_travels_with_its_configuration(packed, tmp_path):
    found = names(packed, tmp_path)
    assert {"ristune/sweep/__main__.py", "ristune/data/order.py", "ristune/configs/config.yaml"} <= found
    assert not any("__pycache__" in name for name in found)


def test_what_the_command_line_names_travels_from_anywhere(packed, tmp_path):
    configs = tmp_path / "elsewhere" / "configs"
    (configs / "space").mkdir(parents=True)
    (configs / "space" / "mine.yaml").write_text("{}")
    sweep = tmp_path / "old"
    for name in ("journal/events.jsonl", "trials/0000/best/weights"):
        (sweep / name).parent.mkdir(parents=True, exist_ok=True)
        (sweep / name).write_text("")
    there = [packed.add(configs), packed.add(configs), packed.add(sweep, ["journal/events.jsonl"])]
    found = {name for name in names(packed, tmp_path) if name.startswith("given/")}
    assert len(set(there)) == 3
    assert found == {
        f"{there[0]}/space/mine.yaml",
        f"{there[1]}/space/mine.yaml",
        f"{there[2]}/journal/events.jsonl",
    }


def test_what_is_too_large_is_refused_with_the_largest_named(packed, tmp_path, here, monkeypatch):
    monkeypatch.setattr(luggage, "MOST_BYTES", 3 * 2**20)
    (here / "lib" / "weights.bin").write_bytes(os.urandom(4 * 2**20))
    with pytest.raises(InputError, match=r"at most 3 MiB, and are \d.*look at lib"):
        packed.pack(tmp_path / "all.zip")
