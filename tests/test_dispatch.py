import pytest

from ristune import __main__ as console_script
from ristune.dataset import __main__ as dataset


@pytest.mark.parametrize("word", ["info", "verify", "export", "convert"])
def test_a_command_is_the_main_of_its_module(word, capsys):
    with pytest.raises(SystemExit) as ended:
        dataset.main([word, "--help"])
    assert ended.value.code == 0
    assert f"usage: python -m ristune.dataset {word} " in capsys.readouterr().out


def test_the_console_script_passes_words_on(monkeypatch, capsys, toy_dataset):
    monkeypatch.setattr("sys.argv", ["ristune", "dataset", "info", toy_dataset])
    assert console_script.main() == 0
    assert "generator 'toy'" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_shows_every_command(arguments, capsys):
    assert dataset.main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {word} " in shown for word in dataset.COMMANDS)


def test_a_word_that_is_no_command_is_bad_input(capsys):
    assert dataset.main(["inof"]) == 2
    assert "error: command: got 'inof'; it must be one of info, verify" in capsys.readouterr().err
