"""A world of processes that share an object store: time is made up, and every order of events may happen."""

import heapq
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ristune.errors import InputError
from ristune.sweep.lease import LEASE


class Killed(BaseException):
    """What a process meets that is killed; nothing of it runs any more."""


@dataclass
class Process:
    """A process of some threads, with a clock of its own."""

    offset: float
    rate: float
    killed: bool = False
    frozen_until: float = 0.0

    def kill(self) -> None:
        """End it between two steps."""
        self.killed = True


@dataclass(order=True)
class _Turn:
    at: float
    number: int
    step: Callable[[], None] = field(compare=False)
    process: Process | None = field(compare=False, default=None)


class World:
    """Lets one thread run at a time, in an order that its seed decides.

    Args:
        seed: of all that happens.
        always: asked after each step.
    """

    def __init__(self, seed: int, always: Callable[[], None]) -> None:
        self.draw = random.Random(seed)
        self.now = 0.0
        self._always = always
        self._turns: list[_Turn] = []
        self._number = 0
        self._back = threading.Semaphore(0)
        self._own = threading.local()
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def spawn(self, process: Process, target: Callable[[], None]) -> None:
        """A new thread of a process."""
        mine = threading.Semaphore(0)

        def body() -> None:
            self._own.process, self._own.turn = process, mine
            mine.acquire()
            try:
                if not process.killed:
                    target()
            except Killed:
                pass
            except BaseException as error:
                self._failures.append(error)
            self._back.release()

        thread = threading.Thread(target=body, daemon=True)
        self._threads.append(thread)
        thread.start()
        self._later(0.0, lambda: self._let(mine), process)

    def sleep(self, seconds: float) -> None:
        """Let the others run; called by the threads of processes."""
        process, mine = self._own.process, self._own.turn
        self._later(seconds, lambda: self._let(mine), process)
        self._back.release()
        mine.acquire()
        if process.killed:
            raise Killed

    def later(self, seconds: float, step: Callable[[], None]) -> None:
        """Have something happen that no process does."""
        self._later(seconds, step, None)

    def clock(self, process: Process) -> float:
        """What a process reads from its own clock."""
        return process.offset + process.rate * self.now

    def run(self, until: float) -> None:
        """Let the world turn."""
        while self._turns and self._turns[0].at <= until and not self._failures:
            turn = heapq.heappop(self._turns)
            frozen = 0.0 if turn.process is None or turn.process.killed else turn.process.frozen_until
            if frozen > turn.at:
                turn.at = frozen
                heapq.heappush(self._turns, turn)
                continue
            self.now = turn.at
            turn.step()
            self._always()
        self.now = max(self.now, until)
        if self._failures:
            raise self._failures[0]

    def end(self, processes: list[Process]) -> None:
        """Kill what still runs, so that no thread is left."""
        for process in processes:
            process.killed = True
        while self._turns:
            heapq.heappop(self._turns).step()
        for thread in self._threads:
            thread.join(10)

    def _later(self, seconds: float, step: Callable[[], None], process: Process | None) -> None:
        self._number += 1
        heapq.heappush(self._turns, _Turn(self.now + seconds, self._number, step, process))

    def _let(self, thread: threading.Semaphore) -> None:
        thread.release()
        self._back.acquire()


class WildStore:
    """A process's view of a store whose calls take their time, fail, and may take effect after they failed.

    Args:
        world: whose time it has.
        objects: all that is stored, shared by every view.
        patience: seconds after which the process gives a call up, more or less.

    Attributes:
        faults: share of calls that are late or fail.
    """

    def __init__(self, world: World, objects: dict[str, tuple[bytes, float]], patience: float) -> None:
        self.faults = 0.0
        self._world = world
        self._objects = objects
        self._patience = patience

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        # The time of an object that is put in parts is that of the first part.
        begun = self._world.now if self._world.draw.random() < 0.5 else None

        def effect() -> None:
            # A front of many, each with a clock of its own; whole seconds are told.
            stamp = (self._world.now if begun is None else begun) + self._world.draw.uniform(-1.0, 1.0)
            self._objects[path] = (bytes(data), float(int(stamp)))

        self._call(effect)

    def read(self, path: str) -> bytes:
        got: list[bytes] = []

        def effect() -> None:
            got[:] = [self._objects[path][0]] if path in self._objects else []

        self._call(effect)
        if not got:
            raise InputError(path, "", "not found", "")
        return got[0]

    def modified(self, path: str) -> dict[str, float]:
        got: dict[str, float] = {}

        def effect() -> None:
            got.update({name.removeprefix(f"{LEASE}/"): stamp for name, (_, stamp) in self._objects.items()})

        self._call(effect)
        return got

    def remove_tree(self, path: str) -> None:
        self._call(lambda: self._objects.pop(path, None) and None)

    def _call(self, effect: Callable[[], None]) -> None:
        draw = self._world.draw
        if draw.random() >= self.faults:
            self._world.sleep(draw.uniform(0.0, 0.2))
            effect()
            self._world.sleep(draw.uniform(0.0, 0.2))
            return
        kind = draw.choice(["slow", "lost", "late"])
        if kind == "slow":
            self._world.sleep(draw.expovariate(1 / self._patience))
            effect()
            self._world.sleep(draw.expovariate(1 / self._patience))
            return
        if kind == "late":
            # A request that is still on its way when its sender has given up.
            self._world.later(draw.expovariate(1 / (6 * self._patience)), effect)
        self._world.sleep(draw.uniform(0.0, self._patience))
        raise InputError("store", "", "it must answer", "")
