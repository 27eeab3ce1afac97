"""The protocol of leases in a world where every order of events may happen."""

import math
import os
import random
from functools import partial

import pytest

from ristune.errors import InputError
from ristune.sweep.lease import RENEWAL, Held, Lease, Lost
from tests.sweep.stores import Process, WildStore, World

TERM = 60.0
WILD, QUIET = 25 * TERM, 12 * TERM


class Candidate:
    """A process that wants the lease again and again, and says whether it may act."""

    def __init__(self, world: World, objects: dict[str, tuple[bytes, float]], seed: int) -> None:
        draw = random.Random(seed)
        self.process = Process(offset=draw.uniform(0, 1e6), rate=draw.uniform(0.98, 1.02))
        self.store = WildStore(world, objects, RENEWAL * TERM)
        self.times_held = 0
        # Kept from now on once it is had, and waited for as long as it takes.
        self.settled = False
        self._world = world
        self._draw = draw
        self.lease = self._new()
        world.spawn(self.process, self._live)

    @property
    def may_act(self) -> bool:
        if self.process.killed:
            return False
        try:
            self.lease.check()
        except Lost:
            return False
        return True

    def _new(self) -> Lease:
        own = random.Random(self._draw.random())
        clock = partial(self._world.clock, self.process)
        return Lease(self.store, TERM, clock=clock, sleep=self._world.sleep, draw=own)

    def _live(self) -> None:
        while True:
            self.lease = self._new()
            try:
                self.lease.acquire(math.inf if self.settled else self._draw.choice([0.0, 90.0]))
            except (Held, InputError):
                pass
            else:
                self._hold(self.lease)
            self._world.sleep(self._draw.uniform(0.0, 2.0))

    def _hold(self, lease: Lease) -> None:
        self.times_held += 1
        ended: list[str] = []

        def renewing() -> None:
            while not ended:
                self._world.sleep(RENEWAL * TERM)
                if ended or not lease.renew():
                    break
            ended.append("thread")

        self._world.spawn(self.process, renewing)
        if not self.settled:
            self._trouble()
        until = self._world.now + self._draw.expovariate(1 / (4 * TERM))
        while self.may_act and (self.settled or self._world.now < until):
            self._world.sleep(self._draw.uniform(0.0, 5.0))
        ended.append("block")
        while "thread" not in ended:
            self._world.sleep(1.0)
        lease.release()

    def _trouble(self) -> None:
        """What may come over a holder: it is frozen, cut off from the store, or killed."""
        start, length = self._draw.uniform(0, TERM), self._draw.uniform(0.2 * TERM, 2 * TERM)

        def freeze() -> None:
            self.process.frozen_until = min(self._world.now + length, WILD)

        def cut() -> None:
            before, self.store.faults = self.store.faults, 1.0
            self._world.later(length, lambda: setattr(self.store, "faults", 0.0 if self.settled else before))

        kind = self._draw.choice([None, freeze, freeze, cut, cut])
        if kind is not None:
            self._world.later(start, kind)


@pytest.mark.parametrize("seed", range(20))
def test_never_two_may_act_and_somebody_always_may_in_the_end(seed: int) -> None:
    candidates: list[Candidate] = []

    def at_most_one() -> None:
        assert sum(candidate.may_act for candidate in candidates) <= 1, f"at {world.now}"

    world = World(seed, at_most_one)
    objects: dict[str, tuple[bytes, float]] = {}
    candidates += [Candidate(world, objects, 1000 * seed + n) for n in range(world.draw.randint(2, 4))]
    for candidate in candidates:
        candidate.store.faults = world.draw.choice([0.0, 0.0, 0.05, 0.3])
    # One at least is left.
    for candidate in candidates[1:]:
        if world.draw.random() < 0.3:
            world.later(world.draw.uniform(0, WILD), candidate.process.kill)
    try:
        world.run(WILD)
        for candidate in candidates:
            candidate.store.faults, candidate.settled = 0.0, True
        world.run(WILD + QUIET)
        assert sum(candidate.may_act for candidate in candidates) == 1, "nobody has it"
    finally:
        world.end([candidate.process for candidate in candidates])


class Slow:
    """A store that answers at once by its own clock, while that of who asks may go on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.written: list[str] = []
        self.write_seconds = 0.0
        self.broken = False

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        if self.broken:
            raise InputError(path, "", "it must answer", "")
        self.objects[path] = (bytes(data), self.now)
        self.written.append(path)
        self.now += self.write_seconds

    def read(self, path: str) -> bytes:
        return self.objects[path][0]

    def modified(self, path: str) -> dict[str, float]:
        return {name.removeprefix(f"{path}/"): stamp for name, (_, stamp) in self.objects.items()}

    def remove_tree(self, path: str) -> None:
        self.objects.pop(path, None)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def lease(self) -> Lease:
        return Lease(self, TERM, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def store() -> Slow:
    return Slow()


def test_a_holder_that_cannot_renew_is_fenced_after_half_a_term_and_for_ever(store: Slow) -> None:
    lease = store.lease()
    lease.acquire()
    store.broken = True
    store.now += TERM / 2 - 1
    assert lease.renew()
    lease.check()
    store.now += 1
    with pytest.raises(Lost, match="it could not be renewed for 30 s, and another process may hold it"):
        lease.check()
    store.broken = False
    assert not lease.renew()
    with pytest.raises(Lost):
        lease.check()


def test_the_time_to_act_counts_from_before_the_put_was_sent(store: Slow) -> None:
    store.write_seconds = 12.0
    lease = store.lease()
    # One put to ask for it, and one to say that it is held.
    lease.acquire()
    store.broken = True
    store.now += TERM / 2 - 12 - 1
    lease.check()
    store.now += 2
    with pytest.raises(Lost):
        lease.check()


def test_a_put_that_is_confirmed_too_late_does_not_count(store: Slow) -> None:
    lease = store.lease()
    lease.acquire()
    store.write_seconds = TERM
    assert not lease.renew()
    with pytest.raises(Lost):
        lease.check()


def test_who_lets_go_may_not_act_and_the_next_has_it_at_once(store: Slow) -> None:
    first = store.lease()
    first.acquire()
    first.release()
    with pytest.raises(Lost):
        first.check()
    before = store.now
    store.lease().acquire()
    assert store.now == before


def test_a_holder_that_died_is_waited_for_and_cleared_away(store: Slow) -> None:
    store.lease().acquire()
    [dead] = store.objects
    before = store.now
    second = store.lease()
    second.acquire()
    assert TERM < store.now - before < 1.1 * TERM
    second.check()
    assert dead not in store.objects and len(store.objects) == 1


def test_a_holder_that_died_while_it_renewed_is_not_taken_for_one_that_renews(store: Slow) -> None:
    store.lease().acquire()
    [(key, (note, put))] = store.objects.items()
    store.objects[f"{key}0"] = (note, put + 10.0)
    second = store.lease()
    second.acquire()
    second.check()
    assert store.now > put + 10.0 + TERM


def test_a_holder_that_renews_refuses_others_by_its_name(
    store: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.lease()
    first.acquire()
    monkeypatch.setattr(store, "sleep", lambda seconds: (setattr(store, "now", store.now + 1), first.renew()))
    second = store.lease()
    with pytest.raises(Held, match=rf"^process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d \S+ UTC,$"):
        second.acquire()
    first.check()
    assert len(store.objects) == 1, "who was refused leaves nothing"


def test_no_key_is_used_twice_and_a_name_only_while_nobody_can_have_taken_it_for_dead(store: Slow) -> None:
    # What was sent before may arrive at any later time: a put as well as a deletion.
    store.lease().acquire()
    frozen = [True]

    def sleep(seconds: float) -> None:
        store.now += 2 * TERM if frozen[0] else seconds
        frozen[0] = False

    second = Lease(store, TERM, clock=lambda: store.now, sleep=sleep)
    second.acquire()
    for _ in range(3):
        assert second.renew()
    assert len(set(store.written)) == len(store.written)
    dead, before, name = dict.fromkeys(key.partition(".")[0] for key in store.written)
    [left] = store.objects
    assert left.startswith(f"{name}.")


def test_what_is_not_of_a_lease_is_no_holder_and_is_cleared_away(store: Slow) -> None:
    store.objects["lease/notes"] = (b"not JSON", store.now)
    store.lease().acquire()
    assert "lease/notes" not in store.objects
