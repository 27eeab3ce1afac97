"""For those who have a Tune script of their own: the searcher, with a journal that outlives the script."""

import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import ray

from ristune.config import compose
from ristune.errors import InputError, require
from ristune.overrides import literal
from ristune.sweep.history import State
from ristune.sweep.journal import FILE, Event, Journal
from ristune.sweep.reports import number, plain_report
from ristune.sweep.search import JournaledSearch
from ristune.sweep.space import Scalar
from ristune.sweep.space_parsing import read_space

SIGNS = {"min": 1, "max": -1}
# What a trial's configuration holds beside its values.
NAME = "trial"


class StudySearch(JournaledSearch):
    """A searcher for `ray.tune.Tuner`: run the script again after a crash, and it goes on.

    Trials that were told are not run again; those that were running are started anew, with the same values
    and the same `config["trial"]`, under which a script may keep its checkpoints. What is maximised has its
    sign turned in the journal.

    Args:
        space: a distribution by name, as in a space's YAML: `{"lr": {"low": 1e-4, "high": 1e-1, "log":
            True}}`.
        directory: of the study; its journal lies in `journal/`. One that is there is gone on with.
        trials: in total; more than before extend a study.
        metric: what the script reports.
        mode: min or max.
        time_attr: what the script counts its reports by.
        settings: of the group `sweep`, by name: sampler, seed, grace, reduction, scheduler, max_retries, ...

    Raises:
        InputError: if the study there has another space or metric, is running, or a setting is refused.
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        directory: str | Path,
        trials: int,
        metric: str,
        mode: str = "min",
        time_attr: str = "training_iteration",
        **settings: Any,
    ) -> None:
        require(trials >= 1, "trials", trials, "at least 1", "give a larger number")
        require(mode in SIGNS, "mode", mode, "min or max", "give one of them")
        rule = f"of names other than {NAME!r}, which tells trials apart"
        require(NAME not in space, "space", NAME, rule, "choose another name")
        config = compose([f"sweep.{name}={literal(value)}" for name, value in settings.items()])
        self._metric_name, self._sign, self._time_attr = metric, SIGNS[mode], time_attr
        entries = {
            name: dict(entry) if isinstance(entry, Mapping) else entry for name, entry in space.items()
        }
        parsed = read_space(entries)
        journal = Journal(Path(directory) / "journal" / FILE)
        sampler = {"sampler": config.sweep.sampler, "seed": config.sweep.seed}
        _start(journal, Path(directory), trials, {"space": entries, "metric": metric, "mode": mode}, sampler)
        super().__init__(parsed, journal, config.sweep, trials, config.training.ceiling)
        self._end_if_done()

    def request(self, name: str, values: Mapping[str, Scalar]) -> dict[str, Any]:
        """The values themselves, and the trial's name."""
        return {**values, NAME: name}

    def read(self, name: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """A result of the script as a report; one without the metric fails its trial."""
        # A script that is run again may begin a trial anew: what is reported anew is not known yet.
        count = number(result.get(self._time_attr, 0))
        count = count if isinstance(count, int | float) else 0
        known = [row for row in self.journal.history.trials[name].records if row["epoch"] < count]
        best_epoch = known[-1]["best_epoch"] if known else 0
        return plain_report(
            result,
            self._metric_name,
            self._sign,
            self._time_attr,
            known[-1]["objective"] if best_epoch else None,
            best_epoch,
            self._ceiling,
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Values for a trial that Ray may start, which it does at once."""
        request = super().suggest(trial_id)
        if isinstance(request, dict):
            self.started(trial_id)
        self._end_if_done()
        return request

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the sampler how a trial ended; with the last one the study has ended."""
        super().on_trial_complete(trial_id, result, error)
        self._end_if_done()

    def end_of(self, name: str, report: Mapping[str, Any]) -> State:
        """Complete, unless it was stopped or has diverged."""
        if report["status"] != "running":
            return super().end_of(name, report)
        return State.STOPPED if self.journal.history.trials[name].stopping else State.COMPLETE

    def _end_if_done(self) -> None:
        if self.done and not self.journal.history.ended:
            self.journal.append(Event.SWEEP_ENDED, outcome="finished", reason="")


def _start(
    journal: Journal, directory: Path, trials: int, study: Mapping[str, Any], sampler: Mapping[str, Any]
) -> None:
    """Note that a study starts or goes on; refuse to go on with another one."""
    started = journal.history.started
    now = {
        "directory": str(directory),
        "requested": trials,
        "source": {"task": {"name": "script"}, "study": dict(study), "sweep": dict(sampler)},
        "overrides": [],
        "command": shlex.join(["python", *sys.argv]),
        "resources": {"gpu": 0.0},
        "versions": {
            "ray": ray.__version__,
            "optuna": optuna.__version__,
            "python": platform.python_version(),
        },
    }
    if not started:
        journal.append(
            Event.SWEEP_STARTED,
            name=directory.name,
            epochs=0,
            training_epochs=0,
            config_dirs=[],
            dataset_id="",
            **now,
        )
        return
    for name, value in study.items():
        before = started["source"].get("study", {}).get(name)
        if before != value:
            journal.close()
            rule = f"it must be what the study in {directory} has: {before!r}"
            raise InputError(name, value, rule, "give that one, or another directory")
    journal.append(Event.SWEEP_RESUMED, **now)
