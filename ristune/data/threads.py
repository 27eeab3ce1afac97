"""Threads that Ctrl-C can interrupt at any line without leaving the process to wait for them."""

import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Work = tuple[Future[Any], Callable[[], Any]]


class Daemons(Executor):
    """An executor of daemon threads.

    Those of `ThreadPoolExecutor` are joined when the interpreter ends, also one that Ctrl-C kept from being
    noted in the executor's books and that nobody therefore tells to end.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Start the threads.

        Args:
            threads: how many.
            name: what each is called.
        """
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._threads = [
            Thread(target=_serve, args=(self._work,), name=name, daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()
        # Also where nobody shuts it down: Ctrl-C may come between its making and its use.
        weakref.finalize(self, _end, self._work, threads).atexit = False

    def submit(
        self, fn: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        """Run a call in one of the threads; calls begin in the order they are submitted in."""
        future: Future[Result] = Future()
        self._work.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when what was submitted is done; may be called again.

        Args:
            wait: whether to wait for that.
            cancel_futures: whether calls that have not begun are left out.
        """
        if cancel_futures:
            with suppress(Empty):
                while (work := self._work.get_nowait()) is not None:
                    work[0].cancel()
        _end(self._work, len(self._threads))
        for thread in self._threads if wait else ():
            thread.join()


def _end(queue: "SimpleQueue[Work | None]", threads: int) -> None:
    for _ in range(threads):
        queue.put(None)


def _serve(queue: "SimpleQueue[Work | None]") -> None:
    while (work := queue.get()) is not None:
        future, call = work
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
        # What a call refers to must not live until the next one comes.
        del work, future, call
