"""What chaos looks for is found: each fault is planted in the journal of a sweep that is whole."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.sweep.whole import faults, lines, trained_again

Events = list[dict[str, Any]]
EPOCHS = 4
ERRORS = {"0000": [4.0, 3.0, 2.0, 1.0], "0001": [5.0], "0002": [3.5, 3.4, 3.3]}
# Of rungs 1 and 3, with one in three going on.
CUTOFFS = {("0001", 1): 4.0, ("0002", 1): 4.0 + 1 / 3, ("0002", 3): 2.0}


def reported(trial: str, epoch: int) -> dict[str, Any]:
    errors = ERRORS[trial][:epoch]
    row = {"epoch": epoch, "value": errors[-1], "objective": min(errors), "seconds": 0.5}
    return {"event": "reported", "trial": trial, "record": row}


def whole() -> Events:
    """A sweep of three trials, one after the other: one complete, two stopped."""
    events: Events = [{"event": "sweep_started", "requested": 3}]
    for trial, errors in ERRORS.items():
        events.append({"event": "asked", "trial": trial, "values": {"optimizer.lr": 0.1}})
        events.append({"event": "started", "trial": trial})
        state = "complete" if len(errors) == EPOCHS else "stopped"
        for epoch, error in enumerate(errors, start=1):
            events.append(reported(trial, epoch))
            if epoch in (1, 3):
                stop = state == "stopped" and epoch == len(errors)
                decided = {"epoch": epoch, "rung": epoch, "objective": error, "cutoff": None}
                decided |= {"decision": "stop" if stop else "continue", "event": "decided", "trial": trial}
                events.append(decided | {"cutoff": CUTOFFS.get((trial, epoch))})
        told = {"trial": trial, "state": state, "objective": min(errors), "feasible": True}
        events.append({"event": "told", **told})
    return [*events, {"event": "sweep_ended", "outcome": "finished"}]


def write(folder: Path, events: Events) -> Path:
    """The folder of a sweep whose tables are those of the journal as it was before a fault was planted."""
    (folder / "journal").mkdir()
    (folder / "journal" / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    settings = {"epochs": EPOCHS, "checkpoint_seconds": 1.0}
    config = {"training": settings, "sweep": {"grace": 1, "reduction": 3}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sound = whole()
    rows = [{"trial": e["trial"], **e["record"]} for e in sound if e["event"] == "reported"]
    pq.write_table(pa.Table.from_pylist(rows), folder / "records.parquet")
    told = [{**e, "values/optimizer.lr": 0.1} for e in sound if e["event"] == "told"]
    pq.write_table(pa.Table.from_pylist(told), folder / "trials.parquet")
    counts = {"total": 3, "running": 0, "interrupted": 0, **Counter(row["state"] for row in told)}
    summary = {"trials": counts, "best": {"objective": 1.0}, "outcome": "finished"}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "best").mkdir()
    (folder / "best.yaml").touch()
    (folder / "best" / "weights.safetensors").touch()
    return folder


def at(events: Events, kind: str, trial: str, number: int = 0) -> int:
    found = [n for n, e in enumerate(events) if e["event"] == kind and e.get("trial") == trial]
    return found[number]


def test_a_whole_sweep_has_no_fault(tmp_path: Path) -> None:
    assert faults(write(tmp_path, whole()), 3) == []


def test_epochs_trained_again_after_a_kill_are_no_fault_and_are_counted(tmp_path: Path) -> None:
    events = whole()
    place = at(events, "reported", "0000", 2)
    again = [{"event": "sweep_resumed"}, reported("0000", 2)]
    events[place:place] = again
    folder = write(tmp_path, events)
    assert faults(folder, 3) == []
    [lost] = trained_again(lines(folder), 1.0)
    assert (lost.trial, lost.epochs, lost.seconds) == ("0000", 1, 0.5)


def drop(kind: str, trial: str, number: int = 0) -> Callable[[Events], None]:
    return lambda events: events.pop(at(events, kind, trial, number)) and None


def repeat(kind: str, trial: str) -> Callable[[Events], None]:
    return lambda events: events.insert(-1, events[at(events, kind, trial)])


def change(kind: str, trial: str, number: int = 0, **values: Any) -> Callable[[Events], None]:
    return lambda events: events[at(events, kind, trial, number)].update(values)


def other_record(events: Events) -> None:
    again = reported("0000", 2)
    again["record"]["value"] = 2.9
    events.insert(at(events, "reported", "0000", 2), again)


def slow_records(events: Events) -> None:
    events[at(events, "reported", "0000", 2)]["record"]["seconds"] = 9.0
    events[at(events, "reported", "0000", 1)]["record"]["seconds"] = 9.0
    events.insert(at(events, "reported", "0000", 3), reported("0000", 2))
    events.insert(at(events, "reported", "0000", 4), reported("0000", 3))


FAULTS: dict[str, Callable[[Events], Any]] = {
    "0002 was told 0 times": drop("told", "0002"),
    "0002 was told 2 times": repeat("told", "0002"),
    "0001 was asked 0 times": drop("asked", "0001"),
    "0000 was started after it was told": repeat("started", "0000"),
    "0000: epoch 3 was reported after 1": drop("reported", "0000", 1),
    "0002 was told 9, and the best of its records is 3.3": change("told", "0002", objective=9),
    "0002 was told as complete, and it is stopped": change("told", "0002", state="complete"),
    "0001 was told as stopped, and it is complete": change("decided", "0001", decision="continue"),
    "0000: epoch 2 was another when it was trained again, in value": other_record,
    "0000: 2 epochs of 18.00 s were trained again": slow_records,
    "0000 was decided on twice at rung 1": repeat("decided", "0000"),
    "0001: the cutoff of rung 1 was 9, and it is 4.0": change("decided", "0001", cutoff=9),
    "0002 is at rung 3 with None, and by its record with 3.3": drop("decided", "0002", 1),
    "0000 is at rung 1 with 7, and by its record with 4.0": change("decided", "0000", objective=7),
    "Optuna has 1 trials that run for ever: [2]": drop("told", "0002"),
    "0002: epoch 3 is either reported or in records.parquet": drop("reported", "0002", 2),
    "not the end of a sweep that finished": lambda events: events.pop(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(tmp_path: Path, fault: str) -> None:
    events = whole()
    FAULTS[fault](events)
    found = faults(write(tmp_path, events), 3)
    assert [line for line in found if fault in line], found


def test_a_journal_that_was_cut_off_is_found(tmp_path: Path) -> None:
    journal = write(tmp_path, whole()) / "journal" / "events.jsonl"
    journal.write_text(journal.read_text()[:-3])
    assert faults(tmp_path, 3) == ["the journal ends in the middle of a line"]


@pytest.mark.parametrize("table", ["records.parquet", "trials.parquet"])
def test_a_row_that_is_doubled_in_a_table_is_found(tmp_path: Path, table: str) -> None:
    path = write(tmp_path, whole()) / table
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([*rows, rows[0]]), path)
    assert [fault for fault in faults(tmp_path, 3) if table in fault]


def test_what_is_left_of_a_trial_to_go_on_from_is_found(tmp_path: Path) -> None:
    (write(tmp_path, whole()) / "trials" / "0001" / "resume").mkdir(parents=True)
    assert faults(tmp_path, 3) == ["trials/0001/resume is left of a trial that was told"]
