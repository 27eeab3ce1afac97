"""Runs a sweep on Ray Tune. Ray is an engine that may be lost: what counts is in the journal."""

import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from ristune.config import Config
from ristune.parallel import clear_up
from ristune.sweep import results
from ristune.sweep.ending import RAY_LOG
from ristune.sweep.engine import ray_running
from ristune.sweep.failures import FailureLimit
from ristune.sweep.home import TRIALS, Home
from ristune.sweep.interrupt import Interrupt, interrupts
from ristune.sweep.journal import Event, Journal
from ristune.sweep.knowledge import Knowledge
from ristune.sweep.progress import Displays
from ristune.sweep.resources import Resources
from ristune.sweep.scheduler import GuardedASHA
from ristune.sweep.search import JournaledSearch
from ristune.sweep.shares import rung_levels, total_epochs
from ristune.sweep.space import Space
from ristune.sweep.worker import TrialWorker
from ristune.training import resume
from ristune.trial import versions

FINISHED, INTERRUPTED, BROKEN = "finished", "interrupted", "broken"
# Seconds between two writings of the results while a sweep runs.
RESULTS_PERIOD = 30.0
# Of so many trials that were told last, a driver that was killed may not have dropped the states.
LATE = 64


@dataclass(frozen=True)
class SweepPlan:
    """Everything a sweep needs, checked.

    Attributes:
        name: of the sweep, and of its folder.
        directory: its folder, made.
        config: what all trials share.
        space: what is searched.
        trials: how many in total, with those of before.
        dataset_id: of the dataset that all trials train on.
        resources: of this machine, or what is asked of a cluster.
        knowledge: what it is told before its first new trial.
        command: the command line, for the record.
        address: of a Ray cluster; None starts Ray on this machine.
        home: where it lives, if that is an object store; its folder is a copy then.
    """

    name: str
    directory: Path
    config: Config
    space: Space
    trials: int
    dataset_id: str
    resources: Resources
    knowledge: Knowledge
    command: str
    address: str | None
    home: Home | None

    @property
    def place(self) -> str:
        """Where its trials keep what they keep, as every machine names it."""
        return str(self.directory.resolve()) if self.home is None else self.home.uri

    def drop(self, trial: str) -> None:
        """Drop the states of a trial that has ended."""
        if self.home is None:
            resume.drop(self.directory / TRIALS / trial)
        else:
            self.home.drop(trial)


class Turns(Callback):
    """Ray's callback: notes that trials start, and lets the display turn.

    Args:
        search: knows the trials.
        displays: drawn in every turn of Ray's loop.
    """

    def __init__(self, search: JournaledSearch, displays: Displays) -> None:
        super().__init__()
        self._search = search
        self._displays = displays

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that an actor has taken the trial."""
        self._search.started(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let the display turn."""
        self._displays.tick()


def run_sweep(sweep: SweepPlan, journal: Journal, displays: Displays) -> str:
    """Run all trials that have not ended; when it returns, Ray is shut down and each has ended or rests.

    Args:
        sweep: what to run.
        journal: an empty one, or that of the sweep so far.
        displays: of the journal's history.

    Returns:
        `finished`, `interrupted` by the user, or `broken`: Ray itself failed, or too many trials; the journal
        says how.
    """
    failures = FailureLimit(sweep.config.sweep.max_failed_share, journal.history)
    written = time.monotonic()

    def follow(event: Mapping[str, Any]) -> None:
        nonlocal written
        displays.event(event)
        if event["event"] != Event.TOLD:
            return
        # A driver that is killed leaves results that are a little old, not none.
        if time.monotonic() - written > RESULTS_PERIOD:
            results.write_tables(sweep.directory, journal.history)
            if sweep.home is not None:
                sweep.home.put(sweep.directory, results.FILES)
            written = time.monotonic()
        interrupt.failure = failures.exceeded()
        # What has ended is not gone on with.
        sweep.drop(event["trial"])

    journal.subscribe(follow)
    outcome, reason = FINISHED, ""
    with interrupts() as interrupt:
        _note_start(sweep, journal)
        # A driver that was killed may have told a trial, and not cleared up after it.
        ended = [trial for trial in journal.history.trials.values() if trial.state.ended]
        for trial in sorted(ended, key=lambda trial: trial.ended or 0.0)[-LATE:]:
            sweep.drop(trial.id)
        try:
            search = JournaledSearch(
                sweep.space, journal, sweep.config.sweep, sweep.trials, sweep.config.training.ceiling
            )
            if search.done:
                # A driver that was killed at the very end has left nothing to run, but its Ray perhaps.
                clear_up()
            else:
                with ray_running(sweep.resources, sweep.address, sweep.directory / RAY_LOG) as scratch:
                    # Ray has put a handler of its own in place.
                    interrupt.install()
                    _run_trials(sweep, search, displays, interrupt, scratch)
            if interrupt.failure:
                outcome, reason = BROKEN, interrupt.failure
            elif interrupt.reason:
                outcome, reason = INTERRUPTED, interrupt.reason
        # Ray answers SIGTERM by SystemExit until our handler is back in place.
        except (KeyboardInterrupt, SystemExit):
            outcome, reason = INTERRUPTED, interrupt.reason or "terminated"
        # Ray may fail in any way: the journal notes it, the traceback goes to the log, the exit status is 1.
        except Exception as error:
            outcome, reason = BROKEN, f"{type(error).__name__}: {error}".splitlines()[0]
            with (sweep.directory / RAY_LOG).open("a") as log:
                log.write(traceback.format_exc())
    journal.append(Event.SWEEP_ENDED, outcome=outcome, reason=reason)
    return outcome


def _run_trials(
    sweep: SweepPlan, search: JournaledSearch, displays: Displays, interrupt: Interrupt, scratch: Path
) -> None:
    try:
        _tune(sweep, search, Turns(search, displays), interrupt, scratch)
    finally:
        interrupt.disarm()
        search.close(interrupt.reason or "the sweep ended")


def _tune(
    sweep: SweepPlan, search: JournaledSearch, turns: Turns, interrupt: Interrupt, scratch: Path
) -> None:
    worker = tune.with_parameters(
        TrialWorker,
        base=for_workers(sweep.config),
        sweep=sweep.name,
        place=sweep.place,
        threads=sweep.resources.cpus,
    )
    settings, epochs = sweep.config.sweep, sweep.config.training.epochs
    tune.run(
        worker,
        name="engine",
        search_alg=search,
        scheduler=GuardedASHA(search, total_epochs(settings, epochs), rung_levels(settings, epochs)),
        # The searcher ends it: a trial that is lost is one more of Ray's.
        num_samples=-1,
        # Without it a searcher keeps one trial pending, and a cluster grows one node at a time.
        max_concurrent_trials=sweep.resources.concurrency,
        resources_per_trial={"cpu": sweep.resources.cpus, "gpu": sweep.resources.gpu},
        reuse_actors=True,
        raise_on_failed_trial=False,
        stop=interrupt,
        callbacks=[turns],
        storage_path=str(scratch),
        trial_name_creator=lambda trial: trial.config["trial"],
        trial_dirname_creator=lambda trial: f"{trial.config['trial']}-{trial.trial_id}",
        verbose=0,
    )


def for_workers(config: Config) -> Config:
    """The configuration as it means the same in a worker, whose folder is another."""
    places = {"data.uri": config.data.uri, "data.cache": config.data.cache}
    local = {path: place for path, place in places.items() if place and "://" not in place}
    values: dict[str, Any] = {path: str(Path(at).expanduser().resolve()) for path, at in local.items()}
    # Of a GPU that trials share, each may fill its part only.
    values["data.gpu_share"] = config.data.gpu_share * config.sweep.gpu_per_trial
    return config.with_values(values)


def _note_start(sweep: SweepPlan, journal: Journal) -> None:
    config = sweep.config
    now = {
        "directory": str(sweep.directory),
        "home": None if sweep.home is None else sweep.home.uri,
        "requested": sweep.trials,
        "source": config.source,
        "overrides": config.overrides,
        "command": sweep.command,
        "resources": asdict(sweep.resources),
        "versions": {**versions(), "ray": ray.__version__, "optuna": optuna.__version__},
    }
    started = {
        "name": sweep.name,
        "epochs": total_epochs(config.sweep, config.training.epochs),
        "training_epochs": config.training.epochs,
        "config_dirs": config.config_dirs,
        "dataset_id": sweep.dataset_id,
    }
    first: tuple[Event, Mapping[str, Any]] = (Event.SWEEP_STARTED, {**started, **now})
    if journal.history.started:
        first = (Event.SWEEP_RESUMED, now)
    # Last: a journal that was cut off on the way has not started, and is begun anew.
    journal.extend([*sweep.knowledge.events(), first])
