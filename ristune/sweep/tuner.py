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
from ristune.sweep.engine import ray_running
from ristune.sweep.history import State
from ristune.sweep.interrupt import Interrupt, interrupts
from ristune.sweep.journal import Event, Journal
from ristune.sweep.progress import Displays
from ristune.sweep.resources import Resources
from ristune.sweep.sampler import create_study
from ristune.sweep.scheduler import STOP, Decision, GuardedASHA, fields
from ristune.sweep.search import StudySearch
from ristune.sweep.space import Space
from ristune.sweep.worker import TrialWorker
from ristune.trial import versions

FINISHED, INTERRUPTED, BROKEN = "finished", "interrupted", "broken"
RAY_LOG = "ray.log"
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
        trials: how many.
        resources: of this machine, or what is asked of a cluster.
        command: the command line, for the record.
        address: of a Ray cluster; None starts Ray on this machine.
    """

    name: str
    directory: Path
    config: Config
    space: Space
    trials: int
    resources: Resources
    command: str
    address: str | None


class Recorder(Callback):
    """Ray's callback: writes what happens into the journal, and lets the display turn.

    Args:
        note: appends an event to the journal and shows it.
        displays: drawn in every turn of Ray's loop.
    """

    def __init__(self, note: Callable[..., None], displays: Displays) -> None:
        super().__init__()
        self._note = note
        self._displays = displays

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

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note why a trial failed; the searcher has told Optuna already."""
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        state, reason = diagnose(text)
        self._note(Event.FAILED, trial=trial.config["trial"], state=state, reason=reason, traceback=text)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let the display turn."""
        self._displays.tick()


def run_sweep(sweep: SweepPlan, journal: Journal, displays: Displays) -> str:
    """Run all trials; when it returns, Ray is shut down and every trial is told.

    Args:
        sweep: what to run.
        journal: an empty one.
        displays: of the journal's history.

    Returns:
        `finished`, `interrupted` by the user, or `broken`: Ray itself failed, and the journal says how.
    """
    written = time.monotonic()

    def note(event: Event, **values: Any) -> None:
        nonlocal written
        displays.event(journal.append(event, **values))
        # A driver that is killed leaves results that are a little old, not none.
        if event is Event.TOLD and time.monotonic() - written > RESULTS_PERIOD:
            results.write_tables(sweep.directory, journal.history)
            written = time.monotonic()

    outcome, reason = FINISHED, ""
    _note_start(sweep, note)
    with interrupts() as interrupt:
        try:
            with ray_running(sweep.resources, sweep.address, sweep.directory / RAY_LOG) as scratch:
                # Ray has put a handler of its own in place.
                interrupt.install()
                _run_trials(sweep, journal, note, displays, interrupt, scratch)
            if interrupt.reason:
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


def diagnose(error: str) -> tuple[State, str]:
    """The state and the one-line reason of a trial that Ray reports as failed.

    Args:
        error: Ray's text: a traceback of the worker, or an account of the actor's death.
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Failure # ")]
    if not lines:
        return State.FAILED, "unknown"
    if "OutOfMemoryError" in error:
        return State.OOM, next(line for line in lines if "OutOfMemoryError" in line)
    # A traceback of the worker ends with what happened, an account of its death begins with it.
    return State.FAILED, lines[-1] if any("ray::" in line for line in lines) else lines[0]


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
        create_study(sweep.name, sweep.config.sweep, journal.path.parent),
        sweep.trials,
        sweep.config.training.ceiling,
        note,
    )
    try:
        _tune(sweep, search, note, displays, interrupt, scratch)
    finally:
        interrupt.disarm()
        search.close(interrupt.reason or "the sweep ended")


def _tune(
    sweep: SweepPlan,
    search: StudySearch,
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

    def decided(decision: Decision) -> None:
        note(Event.DECIDED, **fields(decision))
        if decision.decision == STOP:
            note(Event.STOPPED, trial=decision.trial, reason=decision.reason)

    config = sweep.config
    tune.run(
        worker,
        name="engine",
        search_alg=search,
        scheduler=GuardedASHA(config.training.epochs, config.sweep.grace, config.sweep.reduction, decided),
        num_samples=sweep.trials,
        # Without it a searcher keeps one trial pending, and a cluster grows one node at a time.
        max_concurrent_trials=sweep.resources.concurrency,
        resources_per_trial={"cpu": sweep.resources.cpus, "gpu": sweep.resources.gpu},
        reuse_actors=True,
        raise_on_failed_trial=False,
        stop=interrupt,
        callbacks=[Recorder(note, displays)],
        storage_path=str(scratch),
        trial_name_creator=lambda trial: trial.config["trial"],
        trial_dirname_creator=lambda trial: trial.config["trial"],
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


def _note_start(sweep: SweepPlan, note: Callable[..., None]) -> None:
    note(
        Event.SWEEP_STARTED,
        name=sweep.name,
        directory=str(sweep.directory),
        requested=sweep.trials,
        epochs=sweep.config.training.epochs,
        overrides=sweep.config.overrides,
        config_dirs=sweep.config.config_dirs,
        command=sweep.command,
        resources=asdict(sweep.resources),
        versions={**versions(), "ray": ray.__version__, "optuna": optuna.__version__},
    )
