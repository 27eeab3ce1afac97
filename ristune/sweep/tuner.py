"""Runs a sweep on Ray Tune. Ray is an engine that may be lost: what counts is in the journal."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from ristune.config import Config
from ristune.sweep import results
from ristune.sweep.ending import RAY_LOG
from ristune.sweep.engine import ray_running
from ristune.sweep.failures import FailureLimit, diagnose
from ristune.sweep.history import History
from ristune.sweep.interrupt import Interrupt, interrupts
from ristune.sweep.journal import Event, Journal
from ristune.sweep.progress import Displays
from ristune.sweep.resources import Resources
from ristune.sweep.sampler import create_study
from ristune.sweep.scheduler import STOP, Decision, GuardedASHA, fields
from ristune.sweep.search import StudySearch
from ristune.sweep.space import Space
from ristune.sweep.worker import TrialWorker
from ristune.training import resume
from ristune.trial import versions

FINISHED, INTERRUPTED, BROKEN = "finished", "interrupted", "broken"
# Seconds between two writings of the results while a sweep runs.
RESULTS_PERIOD = 30.0


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
        command: the command line, for the record.
        address: of a Ray cluster; None starts Ray on this machine.
    """

    name: str
    directory: Path
    config: Config
    space: Space
    trials: int
    dataset_id: str
    resources: Resources
    command: str
    address: str | None


class Recorder(Callback):
    """Ray's callback: writes what happens into the journal, and lets the display turn.

    Args:
        note: appends an event to the journal and shows it.
        search: is told of lost actors.
        displays: drawn in every turn of Ray's loop.
    """

    def __init__(self, note: Callable[..., None], search: StudySearch, displays: Displays) -> None:
        super().__init__()
        self._note = note
        self._search = search
        self._displays = displays
        self._decisions: list[Decision] = []

    def decided(self, decision: Decision) -> None:
        """Keep a decision until its report is noted: a journal that ends between the two has neither."""
        self._decisions.append(decision)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that an actor has taken the trial."""
        self._note(Event.STARTED, trial=trial.config["trial"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Note a record; the scheduler has decided on it already, the searcher is not told yet."""
        name = trial.config["trial"]
        if result["record"] is not None:
            self._note(Event.REPORTED, trial=name, record=result["record"])
        for text in result["warnings"]:
            self._note(Event.WARNED, trial=name, text=text)
        self._note_decisions()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note what was decided about the last report."""
        self._note_decisions()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note why an actor was lost, and have the trial run again or told."""
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        loss = diagnose(text)
        name = trial.config["trial"]
        self._note(Event.FAILED, trial=name, state=loss.state, reason=loss.reason, traceback=text)
        self._search.lost(name, loss.state, loss.reason, raised=loss.raised, blameless=loss.blameless)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let the display turn."""
        self._displays.tick()

    def _note_decisions(self) -> None:
        decisions, self._decisions = self._decisions, []
        for decision in decisions:
            self._note(Event.DECIDED, **fields(decision))
            if decision.decision == STOP:
                self._note(Event.STOPPED, trial=decision.trial, reason=decision.reason)


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
    written = time.monotonic()
    failures = FailureLimit(sweep.config.sweep.max_failed_share, journal.history)

    def note(event: Event, **values: Any) -> None:
        nonlocal written
        displays.event(journal.append(event, **values))
        # A driver that is killed leaves results that are a little old, not none.
        if event is Event.TOLD and time.monotonic() - written > RESULTS_PERIOD:
            results.write_tables(sweep.directory, journal.history)
            written = time.monotonic()
        if event is Event.TOLD:
            interrupt.failure = failures.exceeded()
            # What has ended is not gone on with.
            resume.drop(sweep.directory / "trials" / values["trial"])

    outcome, reason = FINISHED, ""
    with interrupts() as interrupt:
        _note_start(sweep, journal.history, note)
        # A driver that was killed may have told a trial, and not cleared up after it.
        for trial in journal.history.trials.values():
            if trial.state.ended:
                resume.drop(sweep.directory / "trials" / trial.id)
        try:
            with ray_running(sweep.resources, sweep.address, sweep.directory / RAY_LOG) as scratch:
                # Ray has put a handler of its own in place.
                interrupt.install()
                _run_trials(sweep, journal, note, displays, interrupt, scratch)
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
    note(Event.SWEEP_ENDED, outcome=outcome, reason=reason)
    return outcome


def _run_trials(
    sweep: SweepPlan,
    journal: Journal,
    note: Callable[..., None],
    displays: Displays,
    interrupt: Interrupt,
    scratch: Path,
) -> None:
    search = StudySearch(
        sweep.space,
        create_study(sweep.name, sweep.config.sweep),
        sweep.config.sweep,
        sweep.trials,
        sweep.config.training.ceiling,
        note,
        journal.history,
    )
    try:
        _tune(sweep, search, journal.history, note, displays, interrupt, scratch)
    finally:
        interrupt.disarm()
        search.close(interrupt.reason or "the sweep ended")


def _tune(
    sweep: SweepPlan,
    search: StudySearch,
    history: History,
    note: Callable[..., None],
    displays: Displays,
    interrupt: Interrupt,
    scratch: Path,
) -> None:
    worker = tune.with_parameters(
        TrialWorker,
        base=for_workers(sweep.config),
        sweep=sweep.name,
        directory=str(sweep.directory.resolve()),
        threads=sweep.resources.cpus,
    )
    config = sweep.config
    recorder = Recorder(note, search, displays)
    scheduler = GuardedASHA(
        config.training.epochs, config.sweep.grace, config.sweep.reduction, recorder.decided, history
    )
    tune.run(
        worker,
        name="engine",
        search_alg=search,
        scheduler=scheduler,
        # The searcher ends it: a trial that is lost is one more of Ray's.
        num_samples=-1,
        # Without it a searcher keeps one trial pending, and a cluster grows one node at a time.
        max_concurrent_trials=sweep.resources.concurrency,
        resources_per_trial={"cpu": sweep.resources.cpus, "gpu": sweep.resources.gpu},
        reuse_actors=True,
        raise_on_failed_trial=False,
        stop=interrupt,
        callbacks=[recorder],
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


def _note_start(sweep: SweepPlan, history: History, note: Callable[..., None]) -> None:
    config = sweep.config
    now = {
        "directory": str(sweep.directory),
        "requested": sweep.trials,
        "source": config.source,
        "overrides": config.overrides,
        "command": sweep.command,
        "resources": asdict(sweep.resources),
        "versions": {**versions(), "ray": ray.__version__, "optuna": optuna.__version__},
    }
    if history.started:
        note(Event.SWEEP_RESUMED, **now)
        return
    note(
        Event.SWEEP_STARTED,
        name=sweep.name,
        epochs=config.training.epochs,
        config_dirs=config.config_dirs,
        dataset_id=sweep.dataset_id,
        **now,
    )
