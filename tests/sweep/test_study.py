"""The searcher and the scheduler of a Tune script, called as Ray calls them."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ristune.errors import InputError
from ristune.sweep import GuardedASHA, StudySearch
from ristune.sweep import search as search_module
from ristune.sweep.history import State

SPACE = {"lr": {"low": 1e-4, "high": 1e-1, "log": True}}


class Script:
    """A Tune script, and Ray's loop around it."""

    def __init__(self, folder: Path, trials: int = 3, max_t: int = 9, **more: Any) -> None:
        self.search = StudySearch(SPACE, folder, trials, "loss", **more)
        self.scheduler = GuardedASHA(self.search, max_t)
        self.count = 0

    def start(self) -> Any:
        self.count += 1
        request = self.search.suggest(f"ray-{self.count}")
        assert isinstance(request, dict), request
        trial = SimpleNamespace(trial_id=f"ray-{self.count}", config=request, error_file=None, max_failures=0)
        self.scheduler.on_trial_add(None, trial)
        return trial

    def report(self, trial: Any, epoch: Any, **result: Any) -> bool:
        """Whether the trial goes on."""
        flat = {"training_iteration": epoch, "time_this_iter_s": 0.5, **result}
        if self.scheduler.on_trial_result(None, trial, flat) == TrialScheduler.CONTINUE:
            self.search.on_trial_result(trial.trial_id, flat)
            return True
        self.end(trial, flat)
        return False

    def end(self, trial: Any, flat: dict[str, Any]) -> None:
        self.scheduler.on_trial_complete(None, trial, flat)
        self.search.on_trial_complete(trial.trial_id, flat)

    def lose(self, trial: Any) -> None:
        self.scheduler.on_trial_error(None, trial)
        self.search.on_trial_complete(trial.trial_id, error=True)

    def trial(self, name: str) -> Any:
        return self.search.journal.history.trials[name]


@pytest.fixture
def script(tmp_path: Path, no_backoff: None) -> Iterator[Script]:
    one = Script(tmp_path / "study", scheduler="none", startup_trials=2)
    yield one
    one.search.journal.close()


def test_a_trial_gets_its_values_and_its_name(script: Script) -> None:
    config = script.start().config
    assert set(config) == {"lr", "trial"} and config["trial"] == "0000"


def test_a_whole_trial_ends_with_its_last_report_whether_the_function_goes_on_or_not(script: Script) -> None:
    trial = script.start()
    assert [script.report(trial, epoch, loss=1 / epoch) for epoch in range(1, 10)] == [True] * 8 + [False]
    told = script.trial("0000")
    assert (told.state, told.objective, told.best_epoch) == (State.COMPLETE, 1 / 9, 9)


def test_a_function_that_returns_early_is_complete(script: Script) -> None:
    trial = script.start()
    script.report(trial, 1, loss=0.5)
    script.end(trial, {"training_iteration": 1, "loss": 0.5, "done": True})
    assert (script.trial("0000").state, script.trial("0000").objective) == (State.COMPLETE, 0.5)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), np.float32("nan")])
def test_a_loss_that_is_not_finite_ends_its_trial_as_diverged(script: Script, loss: Any) -> None:
    trial = script.start()
    assert script.report(trial, 1, loss=0.5)
    assert not script.report(trial, 2, loss=loss)
    assert (script.trial("0000").state, script.trial("0000").objective) == (State.DIVERGED, 0.5)


@pytest.mark.parametrize(
    "loss",
    [np.float32(0.25), np.int64(0), torch.tensor(0.25), np.array(0.25), 1],
    ids=repr,
)
def test_a_number_is_a_number_whoever_made_it(script: Script, loss: Any) -> None:
    assert script.report(script.start(), np.int64(1), loss=loss)
    assert script.trial("0000").objective == float(loss)


@pytest.mark.parametrize("epoch", [0, 0.5, -1, float("nan"), "one", None])
def test_reports_must_be_counted_from_one_on(script: Script, epoch: Any) -> None:
    assert not script.report(script.start(), epoch, loss=0.5)
    assert "training_iteration must count from 1 on" in script.trial("0000").reason
    assert script.trial("0000").state is State.WAITING


def test_a_report_without_the_metric_fails_twice_and_no_more(script: Script) -> None:
    for _ in range(2):
        assert not script.report(script.start(), 1, other=0.5)
    assert script.trial("0000").state is State.FAILED
    assert script.trial("0000").reason == "a report must have 'loss'"
    assert script.start().config["trial"] == "0001"


def test_a_function_that_reports_nothing_has_failed(script: Script) -> None:
    trial = script.start()
    script.end(trial, {"done": True})
    assert script.trial("0000").reason == "it ended without a report"


def test_what_is_maximised_has_its_sign_turned(tmp_path: Path) -> None:
    one = Script(tmp_path / "study", mode="max", scheduler="none")
    trial = one.start()
    for epoch, accuracy in ((1, 0.5), (2, 0.75), (3, 0.625)):
        one.report(trial, epoch, loss=accuracy)
    assert (one.trial("0000").objective, one.trial("0000").best_epoch) == (-0.75, 2)
    one.search.journal.close()


def test_a_trial_that_is_begun_anew_forgets_what_the_lost_one_reached(script: Script) -> None:
    trial = script.start()
    for epoch, loss in ((1, 0.5), (2, 0.01), (3, 0.4)):
        script.report(trial, epoch, loss=loss)
    script.lose(trial)
    again = script.start()
    assert again.config == trial.config
    for epoch in (1, 2, 3):
        script.report(again, epoch, loss=0.6)
    assert (script.trial("0000").objective, script.trial("0000").best_epoch) == (0.6, 1)


def test_an_error_is_known_also_where_another_scheduler_does_not_say_why(script: Script) -> None:
    trial = script.start()
    script.search.on_trial_complete(trial.trial_id, error=True)
    assert script.start().config["trial"] == "0000"


def test_decisions_are_noted_with_their_own_trials_report(tmp_path: Path) -> None:
    one = Script(tmp_path / "study", scheduler="asha", grace=1, reduction=2)
    first, second, third = one.start(), one.start(), one.start()
    assert one.report(first, 1, loss=0.1)
    flat = {"training_iteration": 1, "loss": 0.9}
    # Ray holds back what was decided of the second until its checkpoint is saved.
    assert one.scheduler.on_trial_result(None, second, flat) == TrialScheduler.STOP
    assert one.report(third, 1, loss=0.05)
    assert not one.trial("0001").stopping and not one.trial("0001").records
    one.end(second, flat)
    assert (one.trial("0001").state, one.trial("0001").objective) == (State.STOPPED, 0.9)
    one.search.journal.close()


def test_a_study_ends_with_its_last_trial_and_is_extended(tmp_path: Path) -> None:
    one = Script(tmp_path / "study", trials=1, scheduler="none")
    one.report(one.start(), 9, loss=0.5)
    assert one.search.journal.history.ended["outcome"] == "finished"
    one.search.journal.close()
    again = Script(tmp_path / "study", trials=1, scheduler="none")
    assert again.search.suggest("ray-9") == Searcher.FINISHED
    assert again.search.journal.history.ended["outcome"] == "finished"
    again.search.journal.close()
    more = Script(tmp_path / "study", trials=2, scheduler="none")
    assert more.start().config["trial"] == "0001"
    assert not more.search.journal.history.ended
    more.search.journal.close()


def test_another_study_is_refused_in_its_folder(tmp_path: Path) -> None:
    one = Script(tmp_path / "study", scheduler="asha", grace=1, reduction=3)
    one.report(one.start(), 3, loss=0.5)
    one.search.journal.close()
    with pytest.raises(InputError, match="metric: got 'other'; it must be what the study"):
        StudySearch(SPACE, tmp_path / "study", 3, "other")
    with pytest.raises(InputError, match="space: got"):
        StudySearch({"x": {"low": 0, "high": 3}}, tmp_path / "study", 3, "loss")
    search = StudySearch(SPACE, tmp_path / "study", 3, "loss", grace=2, reduction=2)
    with pytest.raises(InputError, match=r"rungs: got \[2, 4, 8\]; the journal has decisions at 3"):
        GuardedASHA(search, 9)
    search.journal.close()


def test_what_cannot_be_is_refused(tmp_path: Path, script: Script) -> None:
    for more, message in (
        ({"mode": "least"}, "mode: got 'least'; it must be min or max; give one of them"),
        ({"trials": 0}, "trials: got 0"),
        ({"grace": 0}, "sweep.grace: got 0"),
        ({"startup_trials": 151}, "sweep.startup_trials: got 151; it must be at most half of sweep.history"),
    ):
        with pytest.raises(InputError, match=message):
            StudySearch(
                **{"space": SPACE, "directory": tmp_path / "x", "trials": 3, "metric": "loss", **more}
            )
    with pytest.raises(InputError, match=r"rungs: got \[0, 4\]"):
        GuardedASHA(script.search, 9, rungs=[4, 0])
    retried = SimpleNamespace(trial_id="r", config={}, max_failures=3)
    with pytest.raises(InputError, match="FailureConfig.max_failures: got 3; it must be 0"):
        script.scheduler.on_trial_add(None, retried)


def test_a_lost_machine_is_waited_for_longer_each_time(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search_module, "BACKOFF", 100.0)
    error = tmp_path / "error.txt"
    error.write_text("The actor died because its node has died.")
    for _ in range(2):
        # At once the first time.
        trial = script.start()
        assert trial.config["trial"] == "0000"
        trial.error_file = str(error)
        script.lose(trial)
    # It does not count, and does not run again at once.
    assert script.trial("0000").failures == 0
    assert script.start().config["trial"] == "0001"
