"""The command `dataset import-npz`."""

import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from ristune import train
from ristune.dataset import import_npz
from ristune.errors import InputError
from tests.nearfield.npz_files import OLD, shards
from tests.nearfield.old_shards import old_shard, save


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> dict[str, list[str]]:
    """Files in another simulator's convention, drawn from seeds 0, 1, 2."""
    return shards(tmp_path_factory.mktemp("old"), convention=OLD)


def test_the_command_imports_and_its_last_line_trains(old, tmp_path, capsys):
    folder, out = str(Path(old["train"][0]).parent), str(tmp_path / "d")
    assert import_npz.main([folder, "--out", out, "task.field_of_view.range_m=[3,10]"]) == 0
    shown = capsys.readouterr().out
    assert f"convention: {OLD}" in shown and "96 train, 40 val, 24 test" in shown
    arguments = shlex.split(shown.strip().splitlines()[-1].partition("ristune.train ")[2])
    assert "task.field_of_view.range_m=[2,10]" in arguments
    more = ["task.grid=[4,7,11]", "task.network.width=8", "training.epochs=1", "tracking.mode=disabled"]
    assert train.main([*arguments, *more, "--out", str(tmp_path / "run")]) == 0
    assert import_npz.main([folder, "--out", out]) == 2
    assert "--out: got" in capsys.readouterr().err


@pytest.mark.parametrize("shares", ["a,b", "0.8;0.1;0.1", ""])
def test_shares_that_are_no_numbers_are_refused_with_the_rule(shares, capsys):
    with pytest.raises(SystemExit):
        import_npz.main(["all.npz", "--shares", shares])
    text = f"--shares: got {shares!r}; it must be three numbers, for train, val and test, as in 0.8,0.1,0.1"
    assert text in " ".join(capsys.readouterr().err.split())


def test_the_command_refuses_files_whose_split_it_cannot_tell(old, tmp_path, capsys):
    path = tmp_path / "scenes.npz"
    path.write_bytes(Path(old["val"][0]).read_bytes())
    assert import_npz.main([str(path), "--out", str(tmp_path / "d")]) == 2
    assert "must start with train, val or test" in capsys.readouterr().err
    assert import_npz.main(["--train", str(tmp_path / "none.npz"), "--out", str(tmp_path / "d")]) == 2
    assert "it must be a .npz file or a folder" in capsys.readouterr().err
    assert import_npz.main(["--out", str(tmp_path / "d")]) == 2
    assert "at least one .npz file is required" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_splits_are_told_by_the_names_of_files_and_folders(old, tmp_path):
    for name in ("train/a.npz", "train/b.npz", "val_2.npz", "Test-1.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = import_npz.find_files([str(tmp_path)], {}, shares=False)
    assert {split: [Path(f).name for f in files] for split, files in found.items()} == {
        "train": ["a.npz", "b.npz"],
        "val": ["val_2.npz"],
        "test": ["Test-1.npz"],
    }
    with pytest.raises(InputError, match="a file is named once"):
        import_npz.find_files([str(tmp_path)], {"val": [str(tmp_path / "val_2.npz")]}, shares=False)


def test_a_task_without_an_importer_says_so(old, tmp_path, capsys):
    arguments = ["task=toy", "space=toy", "--config-dir", "tests/configs", "--train", old["train"][0]]
    assert import_npz.main([*arguments, "--out", str(tmp_path / "d")]) == 2
    assert "importer: got None; the task 'toy' has none" in capsys.readouterr().err


MEMORY = """
    import re, sys
    from pathlib import Path
    from ristune.data.writing.source import parts
    from tests.nearfield.npz_files import importer

    source = importer({"train": sys.argv[1:]}, duplicates="allow").survey(lambda s, c: parts(s, c, 200))
    for part in source.parts():
        source.arrays(part)
    # Not ru_maxrss, which a process inherits from the one that started it.
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_files(tmp_path):
    """Files of 40 times the rows need no more than a few bytes a row."""
    shard = old_shard(100)
    small = save(tmp_path / "small.npz", shard)
    many = {name: np.concatenate([values] * 40) for name, values in shard.items() if name != "R_samp"}
    large = save(tmp_path / "large.npz", many)
    peaks = []
    for path in (small, large):
        code = textwrap.dedent(MEMORY)
        run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout) * 1024)
    size = Path(large).stat().st_size
    assert size > 500e6 and peaks[1] - peaks[0] < 0.1 * size, (size, peaks)
