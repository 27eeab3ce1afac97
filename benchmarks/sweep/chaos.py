"""Sweeps whose driver, workers and raylet are killed at random, until all have ended whole.

    python -m benchmarks.sweep.chaos [--drivers 30] [--workers 20] [--raylets 10] [--seed 0]
    python -m benchmarks.sweep.chaos --trials 200 --kills 2

Starts sweeps of the tests' toy task as a shell does, on a real Ray, kills by SIGKILL what the plan says,
goes on with `--resume`, which the next kill may meet, and looks at what is left (`whole.py`): every trial
told once, no epoch lost or doubled, the rungs those of the records, no process alive. `--kills` kills the
driver of one sweep so often on the way instead. A kill comes early (so many seconds after a driver was
started: often before its first trial), on the way (when so many trials have been told) or late (after the
last trial was told). Where the sweep ended before its kill came, one of a sweep more is killed. Run it
where the repository is; exit status 1 if anything was wrong, with the command that repeats that sweep
alone.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.sweep.drivers import Driver
from benchmarks.sweep.kills import EARLY, MOMENTS, ON_THE_WAY, TARGETS, Kill, plan
from benchmarks.sweep.whole import Again, faults, lines, trained_again

# Where a kill met a sweep.
PLACES = ("before its first trial", "while it went on", "while trials ran", "after the last was told")
NAME = "chaos"
# Of about 0.1 s an epoch, so that a checkpoint is worth its while; a state is kept each second all the same.
CHECKPOINT_SECONDS = 1.0
SETTINGS = (
    "training.epochs=27",
    "sweep.grace=3",
    "sweep.max_retries=20",
    f"training.checkpoint_seconds={CHECKPOINT_SECONDS}",
    "tracking.mode=disabled",
    "simulator.train=2048",
)
# Sweeps for kills that came too late, at most.
MORE_SWEEPS = 10


@dataclass
class Tally:
    """What the sweeps so far have shown.

    Attributes:
        killed: how often, by target and place.
        faults: in a line each.
    """

    sweeps: int = 0
    drivers: int = 0
    trials: int = 0
    epochs: int = 0
    anew: int = 0
    refused: int = 0
    killed: Counter[tuple[str, str]] = field(default_factory=Counter)
    again: list[Again] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The kills so far."""
        counts = {target: sum(n for (of, _), n in self.killed.items() if of == target) for target in TARGETS}
        killed = ", ".join(f"{count} {target}s" for target, count in counts.items())
        return f"killed: {killed}; {self.trials} trials, {len(self.faults)} faults"


def run_sweep(kills: Sequence[Kill], trials: int, tally: Tally, say: str) -> list[Kill]:
    """Run one sweep to its end, kill by kill, and add to the tally what it shows.

    Args:
        kills: in order.
        trials: of the sweep.
        tally: is added to.
        say: what stands before each line of progress.

    Returns:
        Kills for which it ended too early.
    """
    home = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    driver = Driver(home, NAME, trials, SETTINGS)
    left, wrong, tried = list(kills), [], False
    try:
        driver.simulate()
        driver.start()
        while not driver.finished:
            if driver.ended:
                if not driver.hurt:
                    wrong.append(f"a driver that nobody killed ended with {driver.status}: {driver.said()}")
                    break
                driver.go_on()
            early = bool(left) and left[0].moment == EARLY
            # Where a driver is about to end, a second one would take its place.
            if not (tried or early or driver.hurt) and driver.begun():
                tried, fault = True, driver.second()
                # One that has ended meanwhile refuses nobody.
                if not driver.ended:
                    tally.refused += fault is None
                    wrong += [fault] if fault else []
            if not left:
                driver.wait(lambda: False)
            elif place := _kill(driver, left[0]):
                tally.killed[left.pop(0).target, place] += 1
                print(f"{say} {place}: {tally.line()}", flush=True)
        if not wrong:
            wrong += _look(driver, trials, tally)
    except TimeoutError as error:
        wrong.append(f"{error}: {driver.said()}")
    finally:
        driver.end_all()
    tally.sweeps += 1
    tally.drivers += driver.started
    tally.anew += driver.anew
    tally.faults += [f"{say} {fault}" for fault in wrong]
    if wrong:
        print("\n".join([*wrong, f"{say} its files are kept in {home}"]), flush=True)
    else:
        shutil.rmtree(home)
    return left


def _kill(driver: Driver, kill: Kill) -> str:
    """Wait for the moment, and kill; where it met the sweep, empty if the driver has ended before."""
    if kill.moment == EARLY:
        driver.wait(lambda: time.monotonic() >= driver.since + kill.delay)
    elif kill.moment == ON_THE_WAY:
        driver.wait(lambda: driver.count("told") >= kill.share * driver.trials and driver.running)
        driver.pause(kill.delay)
    else:
        driver.wait(lambda: driver.count("told") == driver.trials)
        driver.pause(kill.delay)
    # Where its raylet is gone, or its workers, what is to be killed comes with the next driver.
    while driver.wait(lambda: bool(driver.pids(kill.target))) and not driver.ended:
        found, place = driver.pids(kill.target), _place(driver)
        if found and driver.kill(found[int(kill.which * len(found))], kill.target):
            return place
    return ""


def _place(driver: Driver) -> str:
    if not driver.count("started"):
        return PLACES[0]
    if driver.count("told") == driver.trials:
        return PLACES[3]
    return PLACES[2] if driver.running else PLACES[1]


def _look(driver: Driver, trials: int, tally: Tally) -> list[str]:
    """What is wrong with a sweep that has ended."""
    events = lines(driver.folder)
    tally.trials += trials
    tally.epochs += sum(event["event"] == "reported" for event in events)
    tally.again += trained_again(events, CHECKPOINT_SECONDS)
    left = driver.left_over()
    return [*faults(driver.folder, trials), *(f"left over: {name}" for name in left)]


def table(tally: Tally) -> str:
    """The result, in Markdown."""
    rows = ["| killed | " + " | ".join((*PLACES, "in all")) + " |", "|---" * (len(PLACES) + 2) + "|"]
    for target in TARGETS:
        counts = [tally.killed[target, place] for place in PLACES]
        rows.append(f"| {target} | " + " | ".join(str(count) for count in (*counts, sum(counts))) + " |")
    epochs = sum(again.epochs for again in tally.again)
    longest = max((again.seconds for again in tally.again), default=0.0)
    return "\n".join(
        [
            *rows,
            "",
            f"{tally.sweeps} sweeps, {tally.drivers} drivers, {tally.trials} trials asked and told once. "
            f"{tally.epochs} epochs were reported, {epochs} of them trained again after a kill, "
            f"{longest:.2f} s of one trial at most. A second driver was refused {tally.refused} times. "
            f"{tally.anew} drivers were killed before their sweep was in its journal, and it was begun anew. "
            f"{len(tally.faults)} faults.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the plan; 1 if anything was wrong."""
    arguments = _parser().parse_args(argv)
    counts = (arguments.drivers, arguments.workers, arguments.raylets)
    each, moments = arguments.each, MOMENTS
    if arguments.kills is not None:
        counts, each, moments = (arguments.kills, 0, 0), arguments.kills, {ON_THE_WAY: 1.0}
    tally = Tally()
    # A run that is cut short has shown something too, and leaves no process behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        left, repeat = _run(plan(counts, each, arguments.seed, moments), each, arguments, tally)
    except KeyboardInterrupt:
        left, repeat = [], []
        print("\ncut short")
    print(f"\n{table(tally)}")
    if left:
        print(f"{len(left)} kills came too late, again and again")
    for fault in tally.faults:
        print(f"- {fault}")
    for number in repeat:
        given = " ".join(argv if argv is not None else sys.argv[1:])
        print(f"repeat: python -m benchmarks.sweep.chaos {given} --only {number}")
    return 1 if tally.faults or left else 0


def _run(
    sweeps: Sequence[Sequence[Kill]], each: int, arguments: argparse.Namespace, tally: Tally
) -> tuple[list[Kill], list[int]]:
    """Run all sweeps; the kills that came too late, and the numbers of the sweeps that had a fault."""
    left: list[Kill] = []
    repeat = []
    for number, kills in enumerate(sweeps):
        if arguments.only in (None, number):
            before = len(tally.faults)
            left += run_sweep(kills, arguments.trials, tally, f"sweep {number}")
            if len(tally.faults) > before:
                repeat.append(number)
    for number in range(len(sweeps), len(sweeps) + MORE_SWEEPS):
        if left and arguments.only is None:
            some = [replace(kill, moment=ON_THE_WAY, delay=0.0) for kill in left[:each]]
            ordered = sorted(some, key=lambda kill: kill.share)
            left = left[each:] + run_sweep(ordered, arguments.trials, tally, f"sweep {number}")
    return left, repeat


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--drivers", type=int, default=30, metavar="N", help="to kill (default: 30)")
    parser.add_argument("--workers", type=int, default=20, metavar="N", help="to kill (default: 20)")
    parser.add_argument("--raylets", type=int, default=10, metavar="N", help="to kill (default: 10)")
    parser.add_argument("--kills", type=int, metavar="N", help="instead: of the driver of one sweep")
    parser.add_argument("--each", type=int, default=5, metavar="N", help="kills a sweep (default: 5)")
    parser.add_argument("--trials", type=int, default=24, metavar="N", help="a sweep (default: 24)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the plan (default: 0)")
    parser.add_argument("--only", type=int, metavar="N", help="only this sweep of the plan")
    return parser


if __name__ == "__main__":
    sys.exit(main())
