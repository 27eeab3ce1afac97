"""The tracked run of each trial of a worker: it may fail or hang, and costs no trial."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Generic, TypeVar

from ristune.tracking import Run, end_service

Result = TypeVar("Result")

# Seconds that a trial waits for its tracker.
PATIENCE = 60.0


class Watching:
    """Tracks the trials of one worker, one after the other.

    Every call runs in a thread that is left behind if it takes too long: until it has come back, nothing more
    is tracked in this worker.

    Attributes:
        warnings: what failed, for the user.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._run: Run | None = None
        self._stack = ExitStack()
        self._hung: _Call[Any] | None = None

    def start(self, opening: Callable[[], AbstractContextManager[Run]]) -> None:
        """Begin a trial's run.

        Args:
            opening: gives the run's context.
        """
        if self._hung is not None and self._hung.thread.is_alive():
            self.warnings.append(
                f"tracking: {self._hung.what} in this worker still hangs, the trial goes on without"
            )
            return
        stack = self._stack
        self._run = self._try("start", lambda: stack.enter_context(opening()))

    def log(self, row: Mapping[str, Any], epoch: int) -> None:
        """Log a record."""
        if self._run is not None:
            self._try("log", partial(self._run.log, row, step=epoch))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the run, if there is one, with how the trial ended; nothing is done twice."""
        if self._run is not None:
            self._try("finish", partial(self._run.finish, summary))
        self._run = None
        self._try("close", self._stack.close)

    def fail(self, error: BaseException) -> None:
        """End the run, if there is one, as an exception ends it.

        Args:
            error: which the trial raised.
        """
        self._run = None
        self._try("close", partial(self._stack.__exit__, type(error), error, error.__traceback__))

    def end(self) -> None:
        """End what all runs of this worker share; what hangs is left to end with the process."""
        if not self._hung:
            self._try("end", end_service)

    def _try(self, what: str, action: Callable[[], Result]) -> Result | None:
        """What an action returns; None if it fails or hangs, which ends the tracking of the trial."""
        call = _Call(what, action, self._stack)
        call.thread.start()
        call.thread.join(PATIENCE)
        if call.thread.is_alive():
            self._hung, self._stack = call, ExitStack()
            self._lose(f"tracking: {what} took more than {PATIENCE:g} s, the trial goes on without")
            return None
        if call.error is not None:
            self._lose(f"tracking: {what} failed, the trial goes on without: {call.error}")
        return call.result

    def _lose(self, warning: str) -> None:
        self._run = None
        self.warnings.append(warning)


class _Call(Generic[Result]):
    """An action in a thread of its own, which holds the context that it is of.

    To let go of the context of a tracker that hangs would be to wait for it.
    """

    def __init__(self, what: str, action: Callable[[], Result], held: object) -> None:
        self.what = what
        self.result: Result | None = None
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, args=(action, held), daemon=True)

    def _run(self, action: Callable[[], Result], held: object) -> None:
        try:
            self.result = action()
        # A tracker may raise anything: a training is not worth losing to what looks on.
        except Exception as error:
            self.error = error
