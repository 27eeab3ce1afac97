"""Searcher, scheduler and journal through random orders of events: lost workers, killed drivers, echoes."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ristune.config import Config
from ristune.sweep import search as search_module
from ristune.sweep.history import State
from ristune.sweep.journal import FILE, Event, Journal, read
from ristune.sweep.scheduler import GuardedASHA
from ristune.sweep.search import JournaledSearch
from ristune.sweep.space import Parameter, Range, Space
from tests.sweep.bench import Everything

SPACE = Space({"optimizer.lr": Parameter(Range(1e-4, 1e-1, log=True))})
CEILING, EPOCHS, LIMIT, AT_ONCE = 1e6, 9, 5, 3
ORDERS = 1000


class Killed(Exception):
    """The driver was killed."""


def record(name: str, epoch: int) -> dict[str, Any]:
    """What a trial reports at an epoch: a curve of its own; one in five diverges, of these one at once."""
    rng = random.Random(f"{name}")
    start, fall, dies = rng.uniform(0.2, 1), rng.uniform(0.5, 1), rng.choice([0, 0, 0, 0, 1, 4])
    best = min(epoch, dies - 1) if dies else epoch
    objective = start * fall**best if best else CEILING
    status = "diverged" if dies == epoch else "complete" if epoch == EPOCHS else "running"
    row = {"epoch": epoch, "objective": objective, "best_epoch": best, "status": status}
    return {**row, "reason": "loss is nan" if status == "diverged" else "", "seconds": 1.0}


class Driver:
    """What Ray's loop does with searcher, scheduler and recorder, on a journal that may be there already."""

    def __init__(self, config: Config, folder: Path, rng: random.Random, checkpoints: dict[str, int]) -> None:
        self.rng = rng
        self.checkpoints = checkpoints
        self.journal = Journal(folder / FILE)
        self.left = rng.choice([10**9, rng.randint(1, 40)])
        self.journal.subscribe(self.noted)
        begun = self.journal.history.started
        self.journal.append(Event.SWEEP_RESUMED if begun else Event.SWEEP_STARTED, requested=LIMIT)
        self.search = JournaledSearch(SPACE, self.journal, config.sweep, LIMIT, CEILING)
        self.study = Everything(self.search.study)
        self.asha = GuardedASHA(self.search, EPOCHS)
        self.live: dict[str, Any] = {}
        self.gone: list[Any] = []
        self.finished = False

    def noted(self, event: Mapping[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def turn(self) -> None:
        """One thing happens."""
        actions: list[Callable[[], None]] = [self.start] * 2 + [self.echo]
        if self.live:
            actions += [self.report] * 8 + [self.lose]
        self.rng.choice(actions)()

    def start(self) -> None:
        if len(self.live) == AT_ONCE:
            return
        name = f"ray-{self.rng.getrandbits(60)}"
        request = self.search.suggest(name)
        if request == Searcher.FINISHED:
            self.finished = True
        elif request is not None:
            trial = SimpleNamespace(trial_id=name, config=request, error_file=None, epoch=0)
            trial.epoch = self.checkpoints.get(request["trial"], 0)
            assert request["trial"] not in [other.config["trial"] for other in self.live.values()]
            self.live[name] = trial
            self.search.started(name)

    def report(self) -> None:
        trial = self.rng.choice(list(self.live.values()))
        name = trial.config["trial"]
        trial.epoch += 1
        row = record(name, trial.epoch)
        result = {**row, "record": row, "warnings": []}
        done = row["status"] != "running"
        stops = done or self.asha.on_trial_result(None, trial, result) == TrialScheduler.STOP
        if not stops:
            self.search.on_trial_result(trial.trial_id, result)
        if self.rng.random() < 0.7:
            self.checkpoints[name] = trial.epoch - 1
        if stops:
            self.asha.on_trial_complete(None, trial, result)
            self.search.on_trial_complete(trial.trial_id, result)
            self.gone.append(self.live.pop(trial.trial_id))

    def lose(self) -> None:
        if self.rng.random() < 0.5:
            return
        trial = self.live.pop(self.rng.choice(list(self.live)))
        self.asha.on_trial_error(None, trial)
        self.search.on_trial_complete(trial.trial_id, error=True)
        self.gone.append(trial)

    def echo(self) -> None:
        """Something of a trial that Ray is done with comes once more, or of one it never had."""
        trial = self.rng.choice([*self.gone, SimpleNamespace(trial_id="ray-none", config={"trial": "none"})])
        result = record(trial.config["trial"], self.rng.randint(1, EPOCHS))
        self.search.on_trial_result(trial.trial_id, result)
        self.search.on_trial_complete(
            trial.trial_id, self.rng.choice([None, result]), self.rng.random() < 0.5
        )


def run(config: Config, folder: Path, seed: int) -> Driver:
    """A sweep to its end, its driver killed on the way now and then."""
    rng = random.Random(seed)
    checkpoints: dict[str, int] = {}
    while True:
        driver = None
        try:
            driver = Driver.__new__(Driver)
            driver.__init__(config, folder, rng, checkpoints)  # type: ignore[misc]
            for _ in range(3000):
                driver.turn()
                if driver.finished:
                    return driver
            raise AssertionError("the sweep does not end")
        except Killed:
            driver.journal.close()


def test_whatever_happens_every_trial_is_told_once_and_the_rungs_are_those_of_the_records(
    toy: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "BACKOFF", 0.0)
    monkeypatch.setattr("os.fsync", lambda file: None)
    config = toy("sweep.sampler=random", "sweep.grace=1", "sweep.reduction=3")
    resumed = failed = 0
    for seed in range(ORDERS):
        folder = tmp_path / str(seed)
        driver = run(config, folder, seed)
        driver.journal.close()
        events = read(folder / FILE)
        told = [event for event in events if event["event"] == "told"]
        resumed += any(event["event"] == "sweep_resumed" for event in events)
        assert sorted(event["trial"] for event in told) == [f"{n:04d}" for n in range(LIMIT)], seed
        assert not [trial for trial in driver.study.trials if trial.state is TrialState.RUNNING], seed
        history = driver.journal.history
        for event in told:
            trial = history.trials[event["trial"]]
            expected = [record(trial.id, epoch) for epoch in range(1, trial.epoch + 1)]
            assert trial.records == expected, seed
            best = min((row["objective"] for row in expected if row["best_epoch"]), default=None)
            failed += trial.state is State.FAILED
            assert trial.objective == best, seed
            if trial.state is not State.FAILED:
                assert event["objective"] == (CEILING if best is None else best), seed
                assert trial.state is not State.COMPLETE or trial.epoch == EPOCHS
                assert (trial.state is State.DIVERGED) == (expected[-1]["status"] == "diverged"), seed
        for rung in (1, 3):
            there = {
                trial.id: trial.records[rung - 1]["objective"]
                for trial in history.trials.values()
                if trial.epoch >= rung and trial.records[rung - 1]["status"] == "running"
            }
            # One that failed for good may not have come as far again as it had been.
            at = history.rungs.get(rung, {})
            assert there == {k: v for k, v in at.items() if k in there}, seed
            assert all(history.trials[name].state is State.FAILED for name in set(at) - set(there)), seed
    # The orders are worth their name.
    assert resumed > ORDERS / 4 and failed > ORDERS / 20
