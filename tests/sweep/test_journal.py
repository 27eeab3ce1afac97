import json
import math
import os
from pathlib import Path

import pytest

from ristune.errors import InputError
from ristune.sweep.history import History, State
from ristune.sweep.journal import Event, Journal, plain, read


def write_some(path: Path) -> None:
    journal = Journal(path)
    journal.append(Event.ASKED, trial="0000", values={"optimizer.lr": 0.1 + 0.2})
    journal.append(Event.STARTED, trial="0000")
    journal.close()


def test_what_is_written_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    write_some(tmp_path / "journal" / "events.jsonl")
    asked, started = read(tmp_path / "journal" / "events.jsonl")
    assert asked["values"] == {"optimizer.lr": 0.30000000000000004}
    assert (started["event"], started["trial"]) == ("started", "0000")
    assert asked["time"] <= started["time"]


def test_every_event_is_in_the_file_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "e.jsonl")
    for count in range(1, 4):
        journal.append(Event.ASKED, trial=str(count), values={})
        assert len(read(tmp_path / "e.jsonl")) == count
    journal.close()


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "e.jsonl"
    write_some(path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert [event["event"] for event in read(path)] == ["asked"]


def test_a_journal_goes_on_after_a_cut_off_line(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write_some(path)
    path.write_bytes(path.read_bytes()[:-7])
    journal = Journal(path)
    assert journal.history.trials["0000"].state is State.WAITING
    journal.append(Event.STARTED, trial="0000")
    journal.close()
    assert [event["event"] for event in read(path)] == ["asked", "started"]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"event": "unheard-of"}', ""])
def test_a_damaged_line_in_the_middle_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "e.jsonl"
    write_some(path)
    first, second, _ = path.read_text().split("\n")
    path.write_text("\n".join([first, line, second, ""]))
    with pytest.raises(InputError, match="line 2"):
        read(path)


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "e.jsonl")
    journal.append(Event.WARNED, trial=None, text="", record={"a": math.nan, "b": [math.inf, 1.5]})
    journal.close()
    assert read(tmp_path / "e.jsonl")[0]["record"] == {"a": None, "b": [None, 1.5]}
    assert "NaN" not in (tmp_path / "e.jsonl").read_text()


def test_an_event_of_a_trial_that_was_never_asked_reaches_no_file(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write_some(path)
    journal = Journal(path)
    with pytest.raises(KeyError):
        journal.append(Event.PAUSED, trial="9999", reason="")
    journal.close()
    assert len(read(path)) == 2
    with path.open("a") as file:
        file.write('{"event": "paused", "time": 1.0, "trial": "9999", "reason": ""}\n')
    with pytest.raises(InputError, match="got 'line 3'; it must go with the events before it"):
        Journal(path)


def test_a_sweep_has_one_driver(tmp_path: Path) -> None:
    first = Journal(tmp_path / "runs" / "journal" / "e.jsonl")
    with pytest.raises(InputError, match=rf"one driver only, and process {os.getpid()} on \S+ is running it"):
        Journal(tmp_path / "runs" / "journal" / "e.jsonl")
    first.close()
    Journal(tmp_path / "runs" / "journal" / "e.jsonl").close()


def test_plain_values_are_json() -> None:
    assert json.loads(json.dumps(plain({"s": State.OOM, "t": (1, None), 3: True}))) == {
        "s": "oom",
        "t": [1, None],
        "3": True,
    }


def test_the_live_history_is_what_the_file_says(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "e.jsonl")
    journal.append(Event.ASKED, trial="0000", values={"a": 1})
    journal.append(Event.TOLD, trial="0000", state=State.OOM, objective=None, feasible=False, reason="boom")
    journal.close()
    again = History()
    for event in read(tmp_path / "e.jsonl"):
        again.apply(event)
    assert again == journal.history
    assert again.trials["0000"].state is State.OOM


def test_the_names_in_records_are_kept_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "e.jsonl")
    journal.append(Event.ASKED, trial="0000", values={})
    for epoch in (1, 2):
        # As Ray hands them on: new text each time.
        row = {"".join(["val/", "mse"]): 0.5, "epoch": epoch, "objective": 0.5, "best_epoch": epoch}
        journal.append(Event.REPORTED, trial="0000", record=row)
    first, second = journal.history.trials["0000"].records
    assert all(one is other for one, other in zip(first, second, strict=True))
    journal.close()
