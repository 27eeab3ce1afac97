"""Ctrl-C and SIGTERM: the first asks a sweep to stop cleanly, the second, or patience, stops it at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray.tune import Stopper

# A terminal that is closed sends SIGHUP.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds for workers to end their epoch and close what they have open; Ray on its own would wait 10.
PATIENCE = 3.0


class Interrupt(Stopper):
    """Whether the user asked to stop; Ray looks at it in every turn of its loop.

    Attributes:
        reason: name of the signal; empty while there was none.
        failure: why it is of no use to go on; empty while it is of use.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.failure = ""
        self._armed = True
        self._timer: threading.Timer | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no trial on its own."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        """What Ray may pickle for a snapshot that nobody reads; a timer cannot be."""
        return {"reason": self.reason, "failure": self.failure}

    def stop_all(self) -> bool:
        """Whether to end the sweep."""
        return bool(self.reason or self.failure)

    def install(self) -> None:
        """Take over the signals; to be called again after anything that sets its own handlers."""
        # Python lets only the main thread do so; a sweep in another one is stopped by its owner.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # What is ignored stays so: nohup means that a sweep outlives its terminal.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, self._handle)

    def disarm(self) -> None:
        """Interrupt nothing any more: what is left to do takes a second, and must be done."""
        self._armed = False
        if self._timer is not None:
            self._timer.cancel()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        if self.reason:
            raise KeyboardInterrupt
        self._timer = threading.Timer(PATIENCE, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
        self._timer.daemon = True
        self._timer.start()
        self.reason = signal.Signals(number).name
        # A print could be re-entered by the second signal.
        os.write(sys.stderr.fileno(), b"\nstopping: saving results (Ctrl-C again to stop at once)\n")


@contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Handlers for the time of a sweep; those from before are put back."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    interrupt = Interrupt()
    interrupt.install()
    try:
        yield interrupt
    finally:
        interrupt.disarm()
        if main:
            for number, handler in before.items():
                signal.signal(number, handler)
