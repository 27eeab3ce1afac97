"""Leases in an object store: a process holds a folder for as long as it says so again and again.

A store has no lock and, as it is reached here, no write on a condition. It is asked for no more than to put,
list, read and delete whole objects, and that a list shows every object that was put before it.

- Who wants the folder puts an object of its own under `lease/`, then lists. It may hold the folder only if
  no other's live object is there: of two, the one that lists last sees the other's.
- An object is dead when its time of modification lies more than a term before that of an object just put.
  Both are the store's, so that no two clocks are compared.
- The holder puts a new object several times a term, and deletes the one before. By its own clock, counted
  from before the last such put that was confirmed in time, it may act for half a term; then it is fenced for
  ever. The other half is for what clocks and requests may be late.
- No key is used twice: what arrives late, from one who gave up or is fenced, neither ages nor deletes
  another object. (The time of an object put in parts is that of its first part.)
"""

import atexit
import json
import math
import os
import platform
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter
from typing import Any, Protocol

from ristune.errors import InputError
from ristune.storage.location import parse_location
from ristune.storage.objects import ObjectStorage
from ristune.sweep.lock import LEASE, Held, Hold, Holder, Lost

# Seconds after which an object that is not put anew is dead.
TERM = 60.0
# Parts of a term: for how long the holder may act, how often it renews, how often those who want it look.
FENCE, RENEWAL, LOOK = 1 / 2, 1 / 6, 1 / 30
ASKS, HOLDS = "asks", "holds"
# What a call to a store may end with; a thread at the end of Python cannot start another.
FAILURES = (InputError, OSError, RuntimeError)


class Store(Protocol):
    """What a lease asks of a store; see `Storage`."""

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        """Put an object."""

    def read(self, path: str) -> bytes:
        """An object whole."""

    def modified(self, path: str) -> dict[str, float]:
        """The objects right below a place, with their times."""

    def remove_tree(self, path: str) -> None:
        """Delete an object."""


def seconds() -> float:
    """Seconds on a clock that never goes back, and goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """A lease that is asked for, held, renewed and let go; threads may share one that is held.

    Args:
        store: the place that is to be held.
        term: seconds; all who ask for the same place must agree on it.
        clock: as `seconds`.
        sleep: waits so many seconds.
        draw: a generator, seeded anew in each process.
    """

    def __init__(
        self,
        store: Store,
        term: float = TERM,
        *,
        clock: Callable[[], float] = seconds,
        sleep: Callable[[float], None] = time.sleep,
        draw: random.Random | None = None,
    ) -> None:
        self._store = store
        self._term = term
        self._clock = clock
        self._sleep = sleep
        # Of the system's entropy: processes that begin at once must not draw the same names.
        self._draw = draw or random.Random(os.urandom(16))
        self._since = time.time()
        self._held = False
        self._name, self._puts = "", 0
        # Put and not known to be deleted.
        self._keys: list[str] = []
        # Until when nobody can have taken the last of them for dead.
        self._alive = math.inf

    def acquire(self, patience: float = 0.0) -> None:
        """Hold the place; one whose holder has died is waited for, a term at most.

        Args:
            patience: seconds to wait for a holder that is alive.

        Raises:
            Held: if a holder is alive, which its renewals show, and patience is at its end.
            InputError: if the store cannot be used.
        """
        deadline = self._clock() + patience
        seen: dict[str, float] = {}
        try:
            while not self._attempt(seen, deadline):
                self._withdraw()
                self._sleep(self._draw.uniform(0, 4 * LOOK * self._term))
        except BaseException:
            self._withdraw()
            raise

    def check(self) -> None:
        """Ask before anything is done that only the holder may do.

        Raises:
            Lost: it was not renewed in time, and another may hold it by now.
        """
        if not self._held or self._clock() >= self._alive:
            rule = f"it could not be renewed for {FENCE * self._term:g} s"
            raise Lost(f"the lease is lost: {rule}, and another process may hold it by now")

    def renew(self) -> bool:
        """Put the object anew, once.

        Returns:
            Whether there is any use in further renewals.
        """
        try:
            return self._put(HOLDS)
        except FAILURES:
            # The next one may pass; if none does in time, `check` says so.
            return True

    def release(self) -> None:
        """Let go; nothing renews it any more. Where the store does not answer, others wait out the term."""
        self._held = False
        self._withdraw()

    def _attempt(self, seen: dict[str, float], deadline: float) -> bool:
        """Ask under a new name until it is held; false if another who asks is to go first."""
        self._name, self._alive = f"{self._draw.getrandbits(64):016x}", math.inf
        while True:
            times = self._store.modified(LEASE) if self._put(ASKS) else {}
            if self._keys[-1] not in times:
                # It was held up, and may have been taken for dead.
                return False
            now = times[self._keys[-1]]
            others = {key: put for key, put in times.items() if not key.startswith(f"{self._name}.")}
            dead = [key for key, put in others.items() if now - put > self._term]
            for key in dead:
                self._remove(key)
            live = {key: put for key, put in others.items() if key not in dead}
            if not live and self._clock() < self._alive:
                self._held = True
                # Others are to know it at once.
                self.renew()
                return True
            if self._goes_first(live, seen, deadline):
                return False
            self._sleep(LOOK * self._term)

    def _goes_first(self, live: Mapping[str, float], seen: dict[str, float], deadline: float) -> bool:
        """Whether another who asks goes first, by its name.

        Raises:
            Held: as `acquire`.
        """
        first = False
        # One who puts its next object has two for a moment, and two for a term if it dies then.
        newest = {key.partition(".")[0]: (put, key) for key, put in sorted(live.items(), key=itemgetter(1))}
        for name, (put, key) in newest.items():
            note = self._note(key)
            if note is None or note["state"] == ASKS:
                first = first or name < self._name
            elif put > seen.setdefault(name, put) and self._clock() >= deadline:
                since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(note["since"]))
                raise Held(f"process {note['process']} on {note['host']}, since {since},")
        return first

    def _note(self, key: str) -> dict[str, Any] | None:
        """What an object says; None if it is gone, or is not of a lease."""
        try:
            note: dict[str, Any] = json.loads(self._store.read(f"{LEASE}/{key}"))
        except (ValueError, *FAILURES):
            return None
        return note

    def _put(self, state: str) -> bool:
        """Put an object, and delete those before it.

        Returns:
            Whether it was confirmed before anybody can have taken the one before it for dead; if not, none of
            this name is to be relied on any more.
        """
        note = {"state": state, "process": os.getpid(), "host": platform.node(), "since": self._since}
        sent = self._clock()
        if sent >= self._alive:
            return False
        self._puts += 1
        self._keys.append(f"{self._name}.{self._puts}")
        self._store.write_atomic(f"{LEASE}/{self._keys[-1]}", json.dumps(note).encode())
        if self._clock() >= self._alive:
            return False
        self._alive = sent + FENCE * self._term
        self._keys[:-1] = [key for key in self._keys[:-1] if not self._remove(key)]
        return True

    def _withdraw(self) -> None:
        self._keys[:] = [key for key in self._keys if not self._remove(key)]

    def _remove(self, key: str) -> bool:
        """Delete an object, if the store answers; one that is left is dead in a term."""
        try:
            self._store.remove_tree(f"{LEASE}/{key}")
        except FAILURES:
            return False
        return True


def holder(store: Store) -> Holder | None:
    """Who has held a place last, and may hold it still; None if it was let go.

    Args:
        store: the place.
    """
    times = store.modified(LEASE)
    for key in sorted(times, key=lambda key: times[key], reverse=True):
        try:
            note = json.loads(store.read(f"{LEASE}/{key}"))
        except InputError:
            # Renewed, or let go, since it was listed.
            continue
        if note["state"] == HOLDS:
            return Holder(note["process"], note["host"], None)
    return None


@contextmanager
def leased(location: str, patience: float = 0.0, term: float = TERM) -> Iterator[Hold]:
    """Hold a folder in an object store, renewed by a thread until the block is left or Python ends.

    Args:
        location: an `s3://` or `gs://` URI.
        patience: seconds to wait for a holder that is alive; one that has died is waited for in any case.
        term: seconds; all who ask for the same folder must agree on it.

    Yields:
        What is to be asked before each thing that only the holder may do.

    Raises:
        Held: if another process has it.
        InputError: if the store cannot be used.
    """
    place = parse_location(location, "lease")
    # A call that hangs for longer than from one renewal to the next would keep the next one from being tried.
    lease = Lease(ObjectStorage(replace(place, deadline=min(place.deadline, RENEWAL * term))), term)
    lease.acquire(patience)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(RENEWAL * term) and lease.renew():
            pass

    # Python may end without the block being left: a daemon does not keep it, but must not be in a call then.
    thread = threading.Thread(target=renew, name="lease", daemon=True)

    def end() -> None:
        stop.set()
        thread.join()
        lease.release()

    thread.start()
    atexit.register(end)
    try:
        yield lease
    finally:
        atexit.unregister(end)
        end()
