"""One trial inside a Ray actor, which is used again for the next one and may leak nothing into it."""

import gc
import importlib
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from ray.tune import Trainable

from ristune.config import Config
from ristune.errors import InputError
from ristune.storage.access import open_storage
from ristune.storage.location import within
from ristune.sweep import records, remains
from ristune.sweep.finding import is_remote
from ristune.sweep.history import State
from ristune.sweep.home import TRIALS
from ristune.sweep.isolation import Baseline
from ristune.sweep.lock import locked
from ristune.sweep.shares import share_at
from ristune.sweep.shelf import Shelf, machine_folder
from ristune.sweep.watching import Watching
from ristune.tracking import Run, track
from ristune.training.memory import out_of_memory
from ristune.training.record import Record, Status
from ristune.trial import prepare

ERROR_FILE, LOG_FILE, LOCK = "error.txt", "log.txt", "lock"
# Seconds to wait for another worker to let go of a trial.
PATIENCE = 60.0
# What Ray adds to an exception by which a worker ends that the system, or Ray, wants to end.
TERMINATED = "ray_terminate_msg"


class WornOut(Exception):
    """This process is not what a new one is: Ray replaces it, and the trial that it was to run waits."""


class TrialWorker(Trainable):
    """Runs the trials that Ray hands to one actor, one after the other.

    Ray calls `setup` once, `step` for each record, `reset_config` before the next trial and `cleanup` at
    the end. A trial is built in its first step: an exception there fails that trial alone, where one in
    `setup` or `reset_config` would cost Ray the actor's place in its queue.
    """

    def setup(self, config: dict[str, Any], base: Config, sweep: str, place: str, threads: int) -> None:
        """Take what all trials share, and the first trial.

        Args:
            config: `{"trial": id, "values": {path: value}, "epoch": the last that the journal has}`.
            base: the sweep's configuration.
            sweep: the sweep's name.
            place: the sweep's folder, or its URI in an object store; a trial's files lie in `trials/<id>`
                under it.
            threads: of torch, for each trial.
        """
        self._base = base
        self._sweep = sweep
        self._place = place
        self._directory = machine_folder(place) if is_remote(place) else Path(place)
        self._shelf: Shelf | None = None
        self._threads = threads
        self._watching = Watching()
        self._warnings: list[str] = []
        self._stack = ExitStack()
        self._last: Record | None = None
        self._begun = False
        self._records: Iterator[Record] | None = None
        self._modules = 0
        self._baseline: Baseline | None = None
        self._remains = remains.Remains()
        self._worn = ""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop everything of the trial before; the next one begins with its first step.

        Args:
            new_config: as `config` of `setup`.
        """
        self._close(State.STOPPED)
        self._trial: str = new_config["trial"]
        self._values: Mapping[str, Any] = new_config["values"]
        self._epoch: int = new_config["epoch"]
        self._last = None
        # Of one that was stopped: nobody listens for it any more.
        self._warnings.clear()
        self._watching.warnings.clear()
        self._freeze()
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch.

        Returns:
            `epoch`, `objective`, `best_epoch`, `status` and `reason` of the record, the `share` of the
            training samples that the objective is of, the flat `record` itself, with the share of its epoch,
            `warnings`, and `done` with the last one. After an exception there is no record, and the status
            is failed or oom; it is `certain` to fail again if a value was refused.
        """
        ended: dict[str, Any] | None = None
        try:
            if self._worn:
                raise WornOut(self._worn)
            if self._records is None:
                self._records = self._begin()
            record = next(self._records)
            if self._shelf is not None and record.status is not Status.RUNNING:
                # What the journal says of a trial that has ended must outlive this machine.
                self._shelf.drain()
        # A trial may run anyone's code: what it raises fails that trial, is kept whole, and is reported.
        except (Exception, SystemExit) as error:
            if isinstance(error, WornOut) or hasattr(error, TERMINATED):
                raise
            # In training the trainer says so itself; here it was while the trial was built.
            state = State.OOM if out_of_memory(error) else State.FAILED
            if state is State.FAILED:
                self._fail(error)
                # What CUDA still holds must not fail the next trial: Ray replaces the actor.
                if torch.cuda.is_available():
                    raise
            ended = {
                "status": str(state),
                "reason": one_line(error),
                "certain": isinstance(error, InputError),
            }
        # Outside of `except`: its traceback holds what is to be freed.
        if ended is not None:
            self._close(State(ended["status"]))
            return self._result(None, **ended, done=True)
        self._last = record
        row = {**record.flat(), "share": share_at(self._base.sweep, self._base.training.epochs, record.epoch)}
        self._watching.log(row, record.epoch)
        done = record.status is not Status.RUNNING
        if done:
            self._close(State(record.status))
        return self._result(row, str(record.status), record.reason, done)

    def cleanup(self) -> None:
        """End the trial, if one is running, and what tracked them all."""
        self._close(State.STOPPED)
        self._watching.end()

    @property
    def _folder(self) -> Path:
        return self._directory / TRIALS / self._trial

    def _begin(self) -> Iterator[Record]:
        self._begun = True
        # A trial that sets its own threads would otherwise leave them to the next one.
        torch.set_num_threads(self._threads)
        if self._baseline is None:
            # What the task's module does to the process when it is imported, it does to every trial.
            with suppress(ImportError):
                importlib.import_module(str(self._base.task["_target_"]).rpartition(".")[0])
            self._baseline = Baseline()
        config = self._base.with_values(self._values)
        self._folder.mkdir(parents=True, exist_ok=True)
        # The worker of a driver that was killed may take a moment to notice: two would write over each other.
        self._stack.enter_context(locked(self._folder / LOCK, PATIENCE))
        if is_remote(self._place):
            store = open_storage(within(self._place, f"{TRIALS}/{self._trial}", "output"), "output")
            self._shelf = Shelf(store, self._folder, LOCK, self._warnings.append)
            self._shelf.fetch(self._epoch)
            self._stack.enter_context(self._shelf)
        found = records.begin(config, self._values, self._folder, prepare, self._clean, self._report)
        self._watching.start(lambda: self._tracked(config))
        return found

    def _tracked(self, config: Config) -> AbstractContextManager[Run]:
        return track(
            config.tracking,
            self._folder,
            name=f"{self._sweep}-{self._trial}",
            group=self._sweep,
            values=self._values,
            resolved=config.resolved(),
            more_follow=True,
        )

    def _report(self, line: str) -> None:
        """Note long work where a user looks who wonders why a trial has not started."""
        self._write(LOG_FILE, "a", f"{time.strftime('%H:%M:%S')} {line}\n")

    def _write(self, name: str, mode: str, text: str) -> None:
        """Write what a user may want to read, and the trial does not need: a full disk does not fail it."""
        try:
            with (self._folder / name).open(mode) as file:
                file.write(text)
        except OSError as error:
            self._warnings.append(f"{name} could not be written: {error}")

    def _close(self, state: State) -> None:
        """End tracking, and make the process what it was; nothing is done twice."""
        last = self._last
        summary: dict[str, Any] = {"state": str(state)}
        if last is not None:
            summary |= {"objective": last.objective, "best_epoch": last.best_epoch, "reason": last.reason}
        self._watching.finish(summary)
        self._stack.close()
        if not self._begun:
            return
        self._begun, self._records, self._shelf = False, None, None
        if self._baseline is not None:
            self._worn = self._baseline.restore()
        # Last: what the trial has hung into the process is gone.
        self._worn = self._remains.check() or self._worn

    def _clean(self) -> None:
        """Between two shares of one trial: the second is trained as in a new process."""
        changed = self._baseline.restore() if self._baseline is not None else ""
        remains.collect()
        if changed:
            raise RuntimeError(f"the task must leave the process as it was, and has changed: {changed}")

    def _fail(self, error: BaseException) -> None:
        """Note an exception where a user will look, and mark the tracked run as failed."""
        self._write(ERROR_FILE, "w", "".join(traceback.format_exception(error)))
        self._watching.fail(error)
        self._stack.close()

    def _freeze(self) -> None:
        """What imports made stays: a collection after each trial need not look at it (0.1 s each time).

        Between two trials, so that nothing of a trial is there but what stays as well.
        """
        if len(sys.modules) > self._modules:
            self._modules = len(sys.modules)
            gc.collect()
            gc.freeze()
            if self._baseline is not None:
                self._baseline.frozen = gc.get_freeze_count()

    def _result(
        self, row: dict[str, Any] | None, status: str, reason: str, done: bool, certain: bool = False
    ) -> dict[str, Any]:
        last = self._last
        warnings = [*self._warnings, *self._watching.warnings]
        self._warnings.clear()
        self._watching.warnings.clear()
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
