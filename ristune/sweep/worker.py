"""One trial inside a Ray actor, which is used again for the next one and may leak nothing into it."""

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from ray.tune import Trainable

from ristune.config import Config
from ristune.errors import InputError
from ristune.overrides import value_at
from ristune.sweep.history import State
from ristune.sweep.lock import locked
from ristune.tracking import Run, end_service, track
from ristune.training import resume
from ristune.training.memory import out_of_memory
from ristune.training.record import Record, Status
from ristune.trial import Trial, prepare

ERROR_FILE, LOG_FILE, LOCK = "error.txt", "log.txt", "lock"
# Seconds to wait for another worker to let go of a trial.
PATIENCE = 60.0


class TrialWorker(Trainable):
    """Runs the trials that Ray hands to one actor, one after the other.

    Ray calls `setup` once, `step` for each record, `reset_config` before the next trial and `cleanup` at
    the end. A trial is built in its first step: an exception there fails that trial alone, where one in
    `setup` or `reset_config` would cost Ray the actor's place in its queue.
    """

    def setup(self, config: dict[str, Any], base: Config, sweep: str, directory: str, threads: int) -> None:
        """Take what all trials share, and the first trial.

        Args:
            config: `{"trial": id, "values": {path: value}}`.
            base: the sweep's configuration.
            sweep: the sweep's name.
            directory: the sweep's folder; a trial's files lie in `trials/<id>` under it.
            threads: of torch, for each trial.
        """
        self._base = base
        self._sweep = sweep
        self._directory = Path(directory)
        self._threads = threads
        self._stack = ExitStack()
        self._tracker: Run | None = None
        self._last: Record | None = None
        self._records: Iterator[Record] | None = None
        self._modules = 0
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop everything of the trial before; the next one begins with its first step.

        Args:
            new_config: as `config` of `setup`.
        """
        self._close(State.STOPPED)
        self._trial: str = new_config["trial"]
        self._values: Mapping[str, Any] = new_config["values"]
        self._last = None
        self._warnings: list[str] = []
        self._freeze()
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch.

        Returns:
            `epoch`, `objective`, `best_epoch`, `status` and `reason` of the record, the flat `record` itself,
            `warnings`, and `done` with the last one. After an exception there is no record, and the status is
            failed or oom; it is `certain` to fail again if a value was refused.
        """
        shortage = ""
        try:
            if self._records is None:
                self._records = self._begin()
            record = next(self._records)
        # A trial may run anyone's code: what it raises fails that trial, is kept whole, and is reported.
        except Exception as error:
            # In training the trainer says so itself; here it was while the trial was built.
            shortage = one_line(error) if out_of_memory(error) else ""
            if not shortage:
                self._fail()
                # What CUDA still holds must not fail the next trial: Ray replaces the actor.
                if torch.cuda.is_available():
                    raise
                certain = isinstance(error, InputError)
                return self._result(None, str(State.FAILED), one_line(error), done=True, certain=certain)
        # Outside of `except`: its traceback holds what is to be freed.
        if shortage:
            self._close(State.OOM)
            self._collect()
            return self._result(None, str(State.OOM), shortage, done=True)
        self._last = record
        row = record.flat()
        if self._tracker is not None:
            tracker = self._tracker
            self._guard("log", lambda: tracker.log(row, step=record.epoch))
        done = record.status is not Status.RUNNING
        if done:
            self._close(State(record.status))
        return self._result(row, str(record.status), record.reason, done)

    def cleanup(self) -> None:
        """End the trial, if one is running, and what tracked them all."""
        self._close(State.STOPPED)
        self._guard("end", end_service)

    @property
    def _folder(self) -> Path:
        return self._directory / "trials" / self._trial

    def _begin(self) -> Iterator[Record]:
        # A trial that sets its own threads would otherwise leave them to the next one.
        torch.set_num_threads(self._threads)
        config = self._base.with_values(self._values)
        self._folder.mkdir(parents=True, exist_ok=True)
        # The worker of a driver that was killed may take a moment to notice: two would write over each other.
        self._stack.enter_context(locked(self._folder / LOCK, PATIENCE))
        trial = prepare(config, self._report)
        self._go_on(trial)
        self._guard("start", lambda: self._open_tracker(config))
        return trial.run(self._folder, resumable=True)

    def _go_on(self, trial: Trial) -> None:
        """Put a trial that was lost, with its worker or its driver, where its last checkpoint is."""
        if not (self._folder / resume.FOLDER).is_dir():
            return
        try:
            saved = resume.newest(self._folder, self._report)
        except InputError as error:
            # Killed before its first checkpoint was whole: there is nothing to lose.
            self._report(f"begun anew: {error}")
            return
        # A journal that lost its end in a power cut gives the number to another trial.
        known = saved.state["config"]
        if any(value_at(known, path) != value for path, value in self._values.items()):
            resume.drop(self._folder)
            self._report("begun anew: the checkpoint is of other values")
            return
        resume.restore(saved, trial.trainer)
        self._report(f"goes on in epoch {trial.trainer.progress.epoch}")

    def _open_tracker(self, config: Config) -> None:
        run = track(
            config.tracking,
            self._folder,
            name=f"{self._sweep}-{self._trial}",
            group=self._sweep,
            values=self._values,
            resolved=config.resolved(),
            more_follow=True,
        )
        self._tracker = self._stack.enter_context(run)

    def _report(self, line: str) -> None:
        """Note long work where a user looks who wonders why a trial has not started."""
        with (self._folder / LOG_FILE).open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def _guard(self, what: str, action: Callable[[], object]) -> None:
        """Do something with the tracker; if it fails the trial goes on without, and says so once."""
        try:
            action()
        # A tracker may raise anything: a training is not worth losing to what looks on.
        except Exception as error:
            self._tracker = None
            self._warnings.append(f"tracking: {what} failed, the trial goes on without: {error}")

    def _close(self, state: State) -> None:
        """End tracking and free memory; nothing is done twice."""
        if self._tracker is not None:
            tracker, last = self._tracker, self._last
            summary: dict[str, Any] = {"state": str(state)}
            if last is not None:
                summary |= {"objective": last.objective, "best_epoch": last.best_epoch, "reason": last.reason}
            self._guard("finish", lambda: tracker.finish(summary))
        self._guard("close", self._stack.close)
        self._tracker = None
        self._free()

    def _fail(self) -> None:
        """Note the exception under way where a user will look, and mark the tracked run as failed."""
        exception = sys.exc_info()
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / ERROR_FILE).write_text(traceback.format_exc())
        self._guard("close", lambda: self._stack.__exit__(*exception))
        self._tracker = None
        self._free()

    def _free(self) -> None:
        if self._records is None:
            return
        self._records = None
        self._collect()

    def _collect(self) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            # The peak of this trial is not the next one's.
            torch.cuda.reset_peak_memory_stats()

    def _freeze(self) -> None:
        """What imports made stays: a collection after each trial need not look at it (0.1 s each time).

        Between two trials, so that nothing of a trial is there but what stays as well.
        """
        if len(sys.modules) > self._modules:
            self._modules = len(sys.modules)
            gc.collect()
            gc.freeze()

    def _result(
        self, row: dict[str, Any] | None, status: str, reason: str, done: bool, certain: bool = False
    ) -> dict[str, Any]:
        last = self._last
        warnings, self._warnings = self._warnings, []
        return {
            "epoch": last.epoch if last else 0,
            "objective": last.objective if last else self._base.training.ceiling,
            "best_epoch": last.best_epoch if last else 0,
            "status": status,
            "reason": reason,
            "certain": certain,
            "record": row,
            "warnings": warnings,
            "done": done,
        }


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
