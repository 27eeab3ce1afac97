"""Command: watches over a node that may be taken away, and has its trials go on elsewhere in time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ristune import cli, preemption
from ristune.cluster import raylet
from ristune.cluster.metadata import Provider, Silent, Taking, make_provider
from ristune.data.locks import hold
from ristune.errors import InputError

EXAMPLES = """\
  python -m ristune.cluster.notice --provider aws        # beside a Ray started with RISTUNE_NOTICE set
  python -m ristune.cluster.notice --provider none -- ray start --address=HEAD:6379 --block"""
# Seconds between two questions; a service that does not answer is asked less often.
PERIOD, LONGEST = 2.0, 15.0
# Seconds between two looks whether the node has let go.
LOOK = 0.2
# Seconds for Ray to be there, and for the agent of an earlier Ray to end.
PATIENCE = 15.0
# Seconds between the node's end by us and its end by the cloud.
MARGIN = 5.0
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.cluster.notice`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    own, command = words[:cut], words[cut + 1 :]
    parser = cli.Parser(
        "cluster.notice",
        "Watch for the end of this machine. On a notice, or SIGTERM, Ray gives it nothing new, its trials "
        "keep their state and go on elsewhere, and Ray ends here. After --: a command that starts Ray.",
        EXAMPLES,
        configured=False,
    )
    parser.add_argument(
        "--provider", choices=("aws", "gcp", "none"), required=True, help="who gives notice, beside SIGTERM"
    )
    parser.add_argument("--endpoint", metavar="URL", help="of the provider's metadata service")
    parser.add_argument(
        "--grace",
        type=cli.at_least_one,
        default=90,
        metavar="S",
        help="seconds for trials to let go, if the provider leaves as many (default: 90); whoever sends "
        "SIGTERM must wait longer before it kills",
    )
    arguments = parser.parse_args(own)
    path = preemption.place()
    with only_agent(path):
        preemption.withdraw(path)
        provider = make_provider(arguments.provider, arguments.endpoint)
        return Agent(provider, path, arguments.grace, command).run()


@contextmanager
def only_agent(path: Path) -> Iterator[None]:
    """Be the one agent of a notice.

    Raises:
        InputError: if another is, and does not end.
    """
    deadline = time.monotonic() + PATIENCE
    while (held := hold(path.with_name(f"{path.name}.lock"), exclusive=True, wait=False)) is None:
        if time.monotonic() >= deadline:
            rule = "it may have one agent, and another process is that"
            raise InputError(preemption.VARIABLE, str(path), rule, "give this node another path")
        # The system has no wait for a lock that ends by itself.
        time.sleep(LOOK)
    try:
        yield
    finally:
        held.release()


@dataclass
class _Schedule:
    """When a service is to be asked again.

    Attributes:
        due: by the monotonic clock.
        failures: without an answer in between.
    """

    due: float = 0.0
    failures: int = 0

    def answered(self, answer: bool) -> None:
        """It was asked."""
        self.failures = 0 if answer else self.failures + 1
        self.due = time.monotonic() + min(PERIOD * 2.0 ** min(self.failures, 10), LONGEST)


class Agent:
    """Watches over a node from one process, until its Ray ends.

    Args:
        provider: asked for a notice.
        path: where the trials of this node look for one.
        grace: seconds for them to let go.
        command: that starts Ray and stays; empty for a Ray that runs.
    """

    def __init__(self, provider: Provider, path: Path, grace: float, command: Sequence[str]) -> None:
        self._provider = provider
        self._path = path
        self._grace = grace
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._raylet: raylet.Raylet | None = None

    def run(self) -> int:
        """Watch.

        Returns:
            The exit status of the command; 0 without one.

        Raises:
            InputError: if there is no Ray that would see a notice.
        """
        # Taken up one by one, in `_wait`: nothing interrupts what must be done.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._start()
            taking = self._watch()
            if taking is not None:
                self._leave(taking)
            return self._status()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self) -> None:
        if self._command:
            self._child = _start(self._command, self._path)
            return
        deadline = time.monotonic() + PATIENCE
        while self._raylet is None:
            if time.monotonic() > deadline:
                rule = "this machine has no raylet that was started with it"
                remedy = f"start Ray first, with {preemption.VARIABLE} set to this path for both"
                raise InputError(preemption.VARIABLE, str(self._path), rule, remedy)
            self._wait(LOOK)
            self._raylet = raylet.find(self._path)
        _say(f"watches over the node {self._raylet.node} of {self._raylet.head}")

    def _watch(self) -> Taking | None:
        """Wait for a notice; None if Ray ends before."""
        schedule = _Schedule()
        while not self._ended():
            taking = self._ask(schedule) if time.monotonic() >= schedule.due else None
            if taking is None and self._wait(PERIOD) == signal.SIGTERM:
                taking = Taking("SIGTERM", None)
            if taking is not None:
                return taking
        return None

    def _ask(self, schedule: _Schedule) -> Taking | None:
        try:
            taking = self._provider.ask()
        except Silent as error:
            # Said once, and again when it is over.
            if not schedule.failures:
                _say(f"no notice, and no answer: {error}")
            schedule.answered(False)
            return None
        if schedule.failures:
            _say("the service answers again")
        schedule.answered(True)
        return taking

    def _leave(self, taking: Taking) -> None:
        """Have the trials go on elsewhere, and wait until they have let go, or time is up."""
        left = self._grace if taking.seconds is None else min(self._grace, taking.seconds - MARGIN)
        deadline = time.monotonic() + left
        _say(f"{taking.reason}: {max(0.0, left):.0f} s for the trials of this node")
        found = self._raylet = self._raylet or raylet.find(self._path)
        # Before the trials know: Ray could put what they let go of here again.
        refused = found.drain(taking.reason, left) if found is not None else "Ray is not there"
        if refused:
            _say(f"Ray may put trials here still: {refused}")
        preemption.give(self._path, taking.reason)
        while found is not None and found.alive() and time.monotonic() < deadline:
            self._wait(LOOK)
        _say("the node has let go" if found is None or not found.alive() else "time is up")

    def _status(self) -> int:
        """End what is left of Ray here."""
        if self._child is None:
            if self._raylet is not None:
                # It says good-bye: what runs there is known to be lost at once.
                self._raylet.end()
            return cli.DONE
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        status = self._child.wait()
        return status if status >= 0 else 128 - status

    def _ended(self) -> bool:
        if self._child is not None:
            return self._child.poll() is not None
        return self._raylet is None or not self._raylet.alive()

    def _wait(self, seconds: float) -> int:
        """Wait for a signal.

        Returns:
            Its number, or 0.

        Raises:
            KeyboardInterrupt: at Ctrl-C, without a command, which it is passed on to.
        """
        got = signal.sigtimedwait(SIGNALS, seconds)
        number = got.si_signo if got is not None else 0
        if number == signal.SIGINT:
            if self._child is None:
                raise KeyboardInterrupt
            self._child.send_signal(number)
        return number


def _start(command: Sequence[str], path: Path) -> subprocess.Popen[bytes]:
    """Start a command whose Ray looks for a notice."""
    try:
        return subprocess.Popen(
            command,
            env={**os.environ, preemption.VARIABLE: str(path)},
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS),
            # Slurm signals the group of its task: Ray is not to hear of it before its trials have let go.
            process_group=0,
        )
    except OSError as error:
        rule = f"it must be a command that can be started ({error.strerror})"
        raise InputError("--", command[0], rule, "give the command that starts Ray") from error


def _say(text: str) -> None:
    # A log that cannot be written, or that nobody reads any more, must not cost the node.
    with suppress(OSError):
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
