"""What must hold of a sweep that has ended, however often it was killed on the way.

    python -m benchmarks.sweep.whole runs/NAME [--trials N]

Everything is worked out anew from the lines of the journal, as docs/sweeps.md describes them, and from
nothing that ristune makes of them: the engine is not asked whether it is right.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import yaml
from optuna.trial import TrialState

JOURNAL = Path("journal") / "events.jsonl"
# What a clock or an allocator decides; the rest of an epoch is the same when it is trained again on a CPU.
CLOCKS = {"seconds", "waiting", "samples_per_second", "peak_memory"}
# Seconds that a window and the writing of a checkpoint may take, on a machine with a lot to do.
SLACK = 1.0
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Again:
    """Epochs of a trial that were reported, and trained again after it was killed.

    Attributes:
        trial: its id.
        epochs: how many.
        seconds: that they had taken.
        allowed: seconds between two checkpoints, and the epoch that was under way.
    """

    trial: str
    epochs: int
    seconds: float
    allowed: float


def lines(folder: Path) -> list[dict[str, Any]]:
    """The journal of a sweep, line by line; what follows the last newline is left out."""
    return [json.loads(line) for line in (folder / JOURNAL).read_bytes().split(b"\n")[:-1]]


def faults(folder: Path, trials: int) -> list[str]:
    """All that is wrong with a sweep that has ended, in a line each.

    Args:
        folder: of the sweep.
        trials: that it was to have.
    """
    if not (folder / JOURNAL).read_bytes().endswith(b"\n"):
        return ["the journal ends in the middle of a line"]
    events = lines(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return [
        *_ends(events, trials),
        *_order(events),
        *_results(events, config["training"]["epochs"]),
        *_repeated(events),
        *(
            f"{again.trial}: {again.epochs} epochs of {again.seconds:.2f} s were trained again, and a "
            f"checkpoint is never older than {again.allowed:.2f} s"
            for again in trained_again(events, config["training"]["checkpoint_seconds"])
            if again.seconds > again.allowed
        ),
        *_rungs(events, config["sweep"]["grace"], config["sweep"]["reduction"], config["training"]["epochs"]),
        *_study(events),
        *_tables(folder, events),
        *_files(folder, events, trials),
    ]


def trained_again(events: Sequence[Event], checkpoint_seconds: float) -> list[Again]:
    """What each kill cost a trial of epochs that had been reported.

    Args:
        events: of the journal.
        checkpoint_seconds: `training.checkpoint_seconds` of the sweep.
    """
    last: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    found = []
    for name, record in _reports(events):
        lost = [row for row in last[name] if row["epoch"] >= record["epoch"]]
        if lost:
            seconds = [row["seconds"] for row in lost]
            allowed = checkpoint_seconds + max(seconds) + SLACK
            found.append(Again(name, len(lost), sum(seconds), allowed))
        last[name] = [row for row in last[name] if row["epoch"] < record["epoch"]] + [record]
    return found


def _reports(events: Sequence[Event]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((e["trial"], e["record"]) for e in events if e["event"] == "reported")


def _told(events: Sequence[Event]) -> dict[str, Event]:
    return {event["trial"]: event for event in events if event["event"] == "told"}


def _kept(events: Sequence[Event]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """The last record of each epoch of each trial."""
    kept: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for name, record in _reports(events):
        kept[name][record["epoch"]] = record
    return kept


def _ends(events: Sequence[Event], trials: int) -> Iterator[str]:
    """Every trial was asked once and told once, and there is none beside."""
    expected = {f"{number:04d}": 1 for number in range(trials)}
    for kind in ("asked", "told"):
        counted = Counter(event["trial"] for event in events if event["event"] == kind)
        for name in sorted({*expected, *counted}):
            if counted[name] != expected.get(name, 0):
                yield f"{name} was {kind} {counted[name]} times"
    if events[-1]["event"] != "sweep_ended" or events[-1]["outcome"] != "finished":
        yield f"the last event is {events[-1]['event']}, and not the end of a sweep that finished"


def _order(events: Sequence[Event]) -> Iterator[str]:
    """Nothing happens to a trial before it was asked or after it was told; no epoch is left out."""
    asked, told = set(), set()
    epoch: Counter[str] = Counter()
    for event in events:
        name = event.get("trial")
        if name is None:
            continue
        if event["event"] == "asked":
            asked.add(name)
        if name not in asked:
            yield f"{name} was {event['event']} before it was asked"
        if name in told:
            yield f"{name} was {event['event']} after it was told"
        if event["event"] == "told":
            told.add(name)
        if event["event"] == "reported":
            if not 1 <= event["record"]["epoch"] <= epoch[name] + 1:
                yield f"{name}: epoch {event['record']['epoch']} was reported after {epoch[name]}"
            epoch[name] = event["record"]["epoch"]


def _results(events: Sequence[Event], epochs: int) -> Iterator[str]:
    """What was told of each trial is what its records and the decisions about it say."""
    kept, told = _kept(events), _told(events)
    stops = {e["trial"]: e["epoch"] for e in events if e["event"] == "decided" and e["decision"] == "stop"}
    for name, event in told.items():
        values = [record["value"] for record in kept[name].values() if record["value"] is not None]
        best = min(values, default=None)
        if event["objective"] != best:
            yield f"{name} was told {event['objective']}, and the best of its records is {best}"
        last = max(kept[name], default=0)
        if name in stops:
            state, ended = "stopped", stops[name]
        else:
            state, ended = "complete", epochs
        if event["state"] != state or not event["feasible"]:
            yield f"{name} was told as {event['state']}, and it is {state}"
        if last != ended:
            yield f"{name} ended after epoch {last}, and it was to end after {ended}"


def _repeated(events: Sequence[Event]) -> Iterator[str]:
    """An epoch that was trained again gave the same record, to the last bit."""
    first: dict[tuple[str, int], Mapping[str, Any]] = {}
    for name, record in _reports(events):
        before = first.setdefault((name, record["epoch"]), record)
        other = ", ".join(k for k in record if k not in CLOCKS and record[k] != before.get(k))
        if other:
            yield f"{name}: epoch {record['epoch']} was another when it was trained again, in {other}"


def _rungs(events: Sequence[Event], grace: int, reduction: int, epochs: int) -> Iterator[str]:
    """The decisions are those that the records make: who was at each rung, with what, under which cutoff."""
    kept = _kept(events)
    rungs = [grace * reduction**k for k in range(epochs) if grace * reduction**k < epochs]
    decided: dict[int, dict[str, float]] = {rung: {} for rung in rungs}
    reported = set()
    for event in events:
        if event["event"] == "reported":
            reported.add((event["trial"], event["record"]["epoch"]))
        if event["event"] != "decided" or not event["rung"]:
            continue
        name, there = event["trial"], decided.setdefault(event["rung"], {})
        if (name, event["epoch"]) not in reported:
            yield f"{name} was decided on at epoch {event['epoch']} before that was reported"
        if name in there:
            yield f"{name} was decided on twice at rung {event['rung']}"
        cutoff = float(np.percentile(list(there.values()), 100 / reduction)) if there else None
        if (cutoff is None) != (event["cutoff"] is None) or not np.isclose(cutoff or 0, event["cutoff"] or 0):
            yield f"{name}: the cutoff of rung {event['rung']} was {event['cutoff']}, and it is {cutoff}"
        above = cutoff is not None and event["objective"] > cutoff
        if (event["decision"] == "stop") != above:
            yield f"{name}: {event['decision']} with {event['objective']} under a cutoff of {cutoff}"
        there[name] = event["objective"]
    for rung, there in decided.items():
        rebuilt = {name: rows[rung]["objective"] for name, rows in kept.items() if rung in rows}
        for name in sorted({*there, *rebuilt}):
            here, by_record = there.get(name), rebuilt.get(name)
            if here != by_record:
                yield f"{name} is at rung {rung} with {here}, and by its record with {by_record}"


def _study(events: Sequence[Event]) -> Iterator[str]:
    """Optuna's study, made of the journal, knows of no trial that still runs."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    trials: dict[str, optuna.Trial] = {}
    for event in events:
        if event["event"] == "asked":
            trials[event["trial"]] = study.ask()
        # One told twice, or never asked, is found elsewhere; Optuna would refuse it.
        if event["event"] == "told" and event["trial"] in trials:
            study.tell(trials[event["trial"]], event["objective"], skip_if_finished=True)
    running = [trial.number for trial in study.trials if trial.state is TrialState.RUNNING]
    if running:
        yield f"Optuna has {len(running)} trials that run for ever: {running}"


def _tables(folder: Path, events: Sequence[Event]) -> Iterator[str]:
    """The tables have each epoch and each trial once, as it was reported and told."""
    rows = pq.read_table(folder / "records.parquet").to_pylist()
    places = [(row["trial"], row["epoch"]) for row in rows]
    for place, count in Counter(places).items():
        if count > 1:
            yield f"{place[0]}: epoch {place[1]} is in records.parquet {count} times"
    reported = {(name, epoch): row for name, kept in _kept(events).items() for epoch, row in kept.items()}
    for name, epoch in sorted(set(places) ^ set(reported)):
        yield f"{name}: epoch {epoch} is either reported or in records.parquet, and not both"
    for row in rows:
        record = reported.get((row["trial"], row["epoch"]), {})
        other = [key for key, value in record.items() if row.get(key) != value]
        if other:
            yield f"{row['trial']}: epoch {row['epoch']} is another in records.parquet, in {', '.join(other)}"
    told, asked = _told(events), {e["trial"]: e["values"] for e in events if e["event"] == "asked"}
    table = pq.read_table(folder / "trials.parquet").to_pylist()
    if [row["trial"] for row in table] != list(asked):
        yield "trials.parquet does not have each trial once"
    for row in table:
        name = row["trial"]
        expected = (
            {"state": told[name]["state"], "objective": told[name]["objective"]} if name in told else {}
        )
        expected |= {f"values/{path}": value for path, value in asked.get(name, {}).items()}
        for key, value in expected.items():
            if row[key] != value:
                yield f"{name}: trials.parquet has {row[key]} for {key}, and the journal {value}"


def _files(folder: Path, events: Sequence[Event], trials: int) -> Iterator[str]:
    """The summary is that of the journal, the winner's checkpoint is there, and nothing to go on from."""
    told = _told(events)
    summary = json.loads((folder / "summary.json").read_text())
    counts = {"total": trials, "running": 0, "interrupted": 0, **Counter(e["state"] for e in told.values())}
    for key, value in counts.items():
        if summary["trials"][key] != value:
            yield f"summary.json has {summary['trials'][key]} trials for {key}, and the journal {value}"
    best = min(told.values(), key=lambda event: event["objective"])["objective"]
    if not summary["best"] or summary["best"]["objective"] != best:
        yield f"summary.json has {summary['best']} as the best, and the journal {best}"
    if summary["outcome"] != "finished":
        yield f"summary.json says {summary['outcome']}"
    for file in ("best.yaml", "best/weights.safetensors"):
        if not (folder / file).is_file():
            yield f"{file} is missing"
    for left in sorted((folder / "trials").glob("*/resume")):
        yield f"{left.relative_to(folder)} is left of a trial that was told"


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is wrong with a sweep; 1 if anything is."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep.whole",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of a sweep that has ended")
    parser.add_argument("--trials", type=int, metavar="N", help="that it was to have (default: as it says)")
    arguments = parser.parse_args(argv)
    requested = [e["requested"] for e in lines(arguments.folder) if "requested" in e][-1]
    found = faults(arguments.folder, arguments.trials or requested)
    print("\n".join(found) or "whole")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
