"""Ray outside the sweep's own loop: its start and its end, and one function run for many items."""

import logging
import os
import secrets
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from ristune.errors import InputError
from ristune.scratch import scratch_folder

# Records, shards' descriptions and the like pass through it; samples do not.
OBJECT_STORE_BYTES = 128 * 2**20
# Seconds between two looks at how far the workers are.
PERIOD = 0.5
# Seconds for tasks to be given up in.
PATIENCE = 3.0
# How often a worker that is lost, with its machine perhaps, is replaced.
RESTARTS = 3
# One core a worker: threads of the numerical libraries would only compete.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]


class Mapper(Protocol):
    """Runs a function for every item, and gives the results as they come, in any order."""

    def __call__(
        self,
        function: Callable[[Item, Progress | None], Result],
        items: Sequence[Item],
        progress: Progress | None,
        /,
    ) -> Iterator[Result]:
        """Run it; what the function counts is passed on to `progress`."""


@contextmanager
def pool(workers: int, address: str | None = None) -> Iterator[Mapper]:
    """Processes that share work, of one core each; afterwards none of them is left.

    A closed terminal and SIGTERM end the work as Ctrl-C does, by KeyboardInterrupt.

    Args:
        workers: how many.
        address: of a running cluster to use; None starts Ray on this machine.

    Yields:
        A mapper. It raises what the function raises, and InputError if the function cannot be pickled or a
        worker is lost again and again; it is of no use any more then, for other items may be under way.
    """
    # The tasks that are under way, and the worker of each.
    running: dict[Any, Any] = {}
    with ray_running(workers, 0, address, ONE_THREAD), _signals_interrupt():
        # The nodes of a cluster have an environment of their own.
        there = {} if address is None else {"runtime_env": {"env_vars": ONE_THREAD}}
        actor = ray.remote(
            num_cpus=1, max_concurrency=2, max_restarts=RESTARTS, max_task_retries=RESTARTS, **there
        )(_Worker)
        actors = [actor.remote() for _ in range(workers)]

        def over(
            function: Callable[[Item, Progress | None], Result],
            items: Sequence[Item],
            progress: Progress | None,
            /,
        ) -> Iterator[Result]:
            return _over(actors, running, function, items, progress)

        try:
            yield over
        finally:
            _give_up(running)


@contextmanager
def ray_running(cores: int, gpus: int, address: str | None, variables: Mapping[str, str]) -> Iterator[Path]:
    """Ray for the time of some work; afterwards none of its processes and files is left.

    Args:
        cores: that a Ray on this machine has.
        gpus: likewise.
        address: of a running cluster to join instead.
        variables: environment variables of this process and of Ray's processes on this machine.

    Yields:
        A folder for temporary files.
    """
    with scratch_folder() as scratch, _environment({**variables, **_everywhere(scratch)}):
        try:
            with _hangup_ignored():
                _start(cores, gpus, address, scratch)
            yield scratch
        finally:
            ray.shutdown()


def clear_up() -> None:
    """End what is left of a Ray whose driver was killed, as the start of the next one does."""
    with scratch_folder():
        pass


class _Worker:
    """A process that runs one item at a time, and says meanwhile how far it is."""

    def __init__(self) -> None:
        self._count = 0

    def run(self, function: Callable[[Any, Progress | None], Any], item: Any) -> tuple[Any, int]:
        """The result for an item, and what was counted for it."""
        self._count = 0
        return function(item, self._add), self._count

    def counted(self) -> int:
        """What has been counted for the item at hand."""
        return self._count

    def _add(self, count: int) -> None:
        self._count += count


def _over(
    actors: Sequence[Any],
    running: dict[Any, Any],
    function: Callable[[Item, Progress | None], Result],
    items: Sequence[Item],
    progress: Progress | None,
) -> Iterator[Result]:
    shared = _put(function)
    idle, waiting = list(actors), deque(items)
    finished = told = 0
    while waiting or running:
        # One item a worker: there is never more in flight than can be worked on.
        while idle and waiting:
            actor = idle.pop()
            running[actor.run.remote(shared, waiting.popleft())] = actor
        ready, _ = ray.wait(list(running), timeout=PERIOD)
        for task in ready:
            idle.append(running.pop(task))
            result, count = _get(task, len(actors))
            finished += count
            yield result
        if progress is not None:
            asked = [actor.counted.remote() for actor in running.values()]
            # A worker that is not there yet, or just being replaced, does not answer.
            answered, _ = ray.wait(asked, num_returns=len(asked), timeout=PERIOD) if asked else ([], [])
            now = finished + sum(_get(each, len(actors)) for each in answered)
            progress(now - told)
            told = now


def _give_up(running: Mapping[Any, Any]) -> None:
    """End tasks that are under way: Ray, shut down among them, writes of retries to the terminal."""
    for actor in running.values():
        ray.kill(actor)
    if running:
        ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)


def _put(function: Callable[..., Any]) -> Any:
    try:
        return ray.put(function)
    except TypeError as error:
        reason = str(error).splitlines()[0]
        rule = f"what several processes share must be picklable ({reason})"
        raise InputError("--workers", "more than 1", rule, "use one, or make it picklable") from error


def _get(task: Any, workers: int) -> Any:
    try:
        return ray.get(task)
    except RayTaskError as error:
        # The error itself, as the function raised it: Ray's own carries a page of its traceback in the text.
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    except RayActorError as error:
        rule = f"a worker was lost {RESTARTS + 1} times ({' '.join(str(error).split())})"
        remedy = "run the same command again to go on, with fewer workers if memory was short"
        raise InputError("--workers", workers, rule, remedy) from error


def _everywhere(scratch: Path) -> dict[str, str]:
    """Environment variables that every Ray of ours has."""
    return {
        # Workers import the user's modules from where the driver does.
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Libraries in a worker leave temporary files behind.
        "TMPDIR": str(scratch),
    }


def _start(cores: int, gpus: int, address: str | None, scratch: Path) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        _give_token()
        ray.init(
            num_cpus=cores,
            num_gpus=gpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(scratch / "ray"),
            **quiet,
        )
    else:
        paths = {"PYTHONPATH": os.environ["PYTHONPATH"]}
        ray.init(address=address, runtime_env={"env_vars": paths}, **quiet)


def _give_token() -> None:
    """A token of our own for a Ray of our own: Ray would write one into the user's home.

    It stays for the life of the process, for Ray reads it once.
    """
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal raise KeyboardInterrupt, so that Ray is shut down; Ray sets its own."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _hangup_ignored() -> Iterator[None]:
    """Processes started meanwhile outlive a terminal that closes: their owner ends them, in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that processes started meanwhile inherit; put back afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
