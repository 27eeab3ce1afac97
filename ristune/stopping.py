"""Ctrl-C and SIGTERM: the first asks for a clean stop, the second stops at once."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal that is closed sends SIGHUP.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def asked_to_stop(message: str) -> Iterator[Callable[[], bool]]:
    """Whether one of the signals has come, to be asked between two steps; earlier handlers are put back.

    Args:
        message: said on stderr when the first one comes.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # A print could be re-entered by the second signal.
        os.write(sys.stderr.fileno(), f"\n{message} (Ctrl-C again to stop at once)\n".encode())

    # What is ignored stays so: nohup means that a training outlives its terminal.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
