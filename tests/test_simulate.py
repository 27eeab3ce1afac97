import re

import pytest

from ristune import simulate, train
from tests.conftest import TOY
from tests.data.drawing import files

SIZES = ["--train", "128", "--val", "64", "--test", "64"]


def test_it_says_first_what_it_will_take_and_then_what_it_took(tmp_path, capsys):
    uri = str(tmp_path / "d")
    assert simulate.main([*TOY, "--out", uri, *SIZES, "--shard-rows", "50"]) == 0
    first, last, _ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        rf"simulating {uri}: 256 samples of \d+ bytes in 7 shards, \d+\.\d kB \(\d+\.\d GB are free\); "
        r"about \d+ s with 1 process",
        first,
    )
    assert re.fullmatch(
        rf"{uri}: 128 train, 64 val, 64 test, \d+\.\d kB, id \w{{12}}; \d+ s, \d+ samples/s", last
    )


def test_an_interrupted_command_goes_on_when_it_is_given_again(tmp_path, capsys, monkeypatch):
    arguments = [*TOY, *SIZES, "--shard-rows", "50", "--out"]
    assert simulate.main([*arguments, str(tmp_path / "whole")]) == 0
    from tests.toy import ToySimulator

    draw = ToySimulator.draw
    drawn = []

    def interrupted(self, rows, rng):
        drawn.append(rows)
        if drawn.count(50) == 2:
            raise KeyboardInterrupt
        return draw(self, rows, rng)

    monkeypatch.setattr(ToySimulator, "draw", interrupted)
    assert simulate.main([*arguments, str(tmp_path / "d")]) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert simulate.main([*arguments, str(tmp_path / "d")]) == 0
    shown = capsys.readouterr().out
    assert "1 of 7 shards are there already, going on" in shown
    assert "206 samples of" in shown
    assert files(tmp_path / "d") == files(tmp_path / "whole")


def test_training_simulates_anew_where_no_shard_was_finished(tmp_path):
    uri = tmp_path / "d"
    assert simulate.main([*TOY, "--out", str(uri), *SIZES]) == 0
    (uri / "manifest.json").unlink()
    (uri / "unfinished").write_text('{"plan":{},"token":"0"}')
    sizes = ["simulator.train=128", "simulator.val=64", "simulator.test=64"]
    more = [*TOY, *sizes, f"data.uri={uri}", "training.epochs=1", f"output={tmp_path}"]
    assert train.main([*more, "--out", str(tmp_path / "run")]) == 0
    assert not (uri / "unfinished").exists()


def test_a_split_of_no_samples_is_the_same_as_none(tmp_path):
    uri = tmp_path / "d"
    sizes = ["simulator.train=128", "simulator.val=64", "simulator.test=0"]
    assert simulate.main([*TOY, "--out", str(uri), *sizes]) == 0
    more = [*TOY, *sizes, f"data.uri={uri}", "training.epochs=1", f"output={tmp_path}"]
    assert train.main([*more, "--out", str(tmp_path / "run")]) == 0


def test_a_dataset_is_never_overwritten(tmp_path, capsys):
    assert simulate.main([*TOY, "--out", str(tmp_path / "d"), *SIZES]) == 0
    before = files(tmp_path / "d")
    capsys.readouterr()
    assert simulate.main([*TOY, "--out", str(tmp_path / "d"), *SIZES]) == 2
    captured = capsys.readouterr()
    assert "there is a dataset already, and datasets never change" in captured.err
    assert captured.out == ""
    assert files(tmp_path / "d") == before


def test_a_disk_that_is_short_is_told_before_anything_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert simulate.main([*TOY, "--out", str(tmp_path / "d"), *SIZES]) == 2
    assert "which must be free on the disk; free some space" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_one_shard_is_drawn_again_alone(tmp_path, capsys):
    uri = tmp_path / "d"
    assert simulate.main([*TOY, "--out", str(uri), *SIZES, "--shard-rows", "50"]) == 0
    before = files(uri)
    (uri / "train/00001.parquet").unlink()
    capsys.readouterr()
    again = [*TOY, "--out", str(uri), "--shard", "train/00001.parquet"]
    assert simulate.main([*again, "simulator.noise=0.2"]) == 2
    assert "generator.parameters.noise: 0.1 there, 0.2 asked" in capsys.readouterr().err
    assert simulate.main(again) == 0
    assert "train/00001.parquet: written again, 50 rows" in capsys.readouterr().out
    assert files(uri) == before


@pytest.mark.parametrize("option", ["--train", "--val", "--test", "--workers", "--shard-rows", "--address"])
def test_one_shard_alone_has_no_options_of_a_whole_dataset(tmp_path, capsys, option):
    command = [*TOY, "--out", str(tmp_path / "d"), "--shard", "train/00001.parquet", option, "1"]
    assert simulate.main(command) == 2
    assert f"{option}: got " in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("workers", ["0", "two"])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(SystemExit) as refused:
        simulate.main([*TOY, "--workers", workers])
    assert refused.value.code == 2
