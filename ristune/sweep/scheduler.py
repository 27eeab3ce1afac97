"""Ray's scheduler: what diverges stops at once, and what is poor stops early."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from ristune.errors import InputError, require
from ristune.sweep.engine import not_restored
from ristune.sweep.guard import STOP, Guard
from ristune.sweep.rules import make_rule
from ristune.sweep.search import JournaledSearch
from ristune.sweep.shares import rung_levels


class GuardedASHA(AsyncHyperBandScheduler):
    """Asynchronous successive halving with a guard, made of the searcher's journal again after a crash.

    Ray's own brackets are left empty: they are drawn from NumPy's global generator, take in NaN and
    infinities, and cannot be rebuilt from a journal.

    Args:
        search: the searcher of the same sweep; its settings say which rule stops trials, and its journal
            keeps what is decided.
        max_t: reports of a whole trial.
        rungs: reports after which a trial may be stopped; None for those of the settings: `grace`, and on by
            `reduction`.
    """

    def __init__(self, search: JournaledSearch, max_t: int, rungs: Sequence[int] | None = None) -> None:
        config, history = search.settings, search.journal.history
        # No metric, as for the searcher: Ray ends a sweep for one report without it.
        super().__init__(metric=None, mode=None, max_t=max_t)
        self._search = search
        rungs = rung_levels(config, max_t) if rungs is None else sorted(rungs)
        rule = f"above 0 and below max_t ({max_t})"
        require(
            all(0 < rung < max_t for rung in rungs), "rungs", rungs, rule, "give others, or a larger max_t"
        )
        self._last = max_t
        self.rule = make_rule(config, rungs)
        self.rule.recall(history)
        self._guard = Guard(self.rule, search.decided, history)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """Leave nothing in Ray's snapshots, as the searcher."""
        return (not_restored, ())

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take nothing: the searcher knows what is optimised."""
        return True

    def on_trial_add(self, tune_controller: object, trial: Trial) -> None:
        """Take note of nothing: a trial joins with its first report.

        Raises:
            InputError: if Ray is to start failed trials anew: then two of them would run.
        """
        if trial.max_failures:
            rule = "it must be 0: the searcher has failed trials run again, and Ray would run them twice"
            remedy = "set max_retries of the searcher"
            raise InputError("FailureConfig.max_failures", trial.max_failures, rule, remedy)

    def on_trial_remove(self, tune_controller: object, trial: Trial) -> None:
        """Forget nothing: a trial that never ran is in no rung."""

    def on_trial_error(self, tune_controller: object, trial: Trial) -> None:
        """Have the searcher know why: Ray tells it only that."""
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        self._search.on_trial_error(trial.trial_id, text)

    def on_trial_result(self, tune_controller: object, trial: Trial, result: Mapping[str, Any]) -> str:
        """Stop or continue.

        Args:
            tune_controller: Ray's, unused.
            trial: Ray's.
            result: the flat report.
        """
        name = self._search.name_of(trial.trial_id)
        if name is None:
            nothing: str = TrialScheduler.CONTINUE
            return nothing
        report = self._search.read(name, result)
        decision = self._guard.decide(name, report)
        whole = report.get("epoch", 0) >= self._last
        action: str = TrialScheduler.STOP if decision == STOP or whole else TrialScheduler.CONTINUE
        return action

    def on_trial_complete(self, tune_controller: object, trial: Trial, result: Mapping[str, Any]) -> None:
        """Let a trial that ended soundly on a rung's epoch count there."""
        name = self._search.name_of(trial.trial_id)
        if name is not None:
            self._guard.end(name, self._search.read(name, result))

    def debug_string(self) -> str:
        """How things stand, in a line."""
        return f"GuardedASHA: {self.rule.describe()}"
