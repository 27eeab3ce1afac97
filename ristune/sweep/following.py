"""A sweep on a cluster, followed from here to its end, and its results fetched."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ristune import cli
from ristune.cluster import fetching
from ristune.cluster.jobs import Follower, Job, Jobs, reach
from ristune.cluster.launcher import ClusterFailure, ClusterFile, find_head, read_cluster, take_down
from ristune.cluster.tunnel import ConnectionLost, inside, ssh
from ristune.errors import InputError
from ristune.sweep.finding import RUNS, is_remote, is_sweep
from ristune.sweep.home import Home
from ristune.sweep.journal import FILE

# Seconds for a second Ctrl-C.
SECOND_THOUGHTS = 3.0
# Lines of a log that are shown to who comes back to it.
SHOWN_AGAIN = 20
# What Ray's launcher says, in the folder of the results.
LOG = "cluster.log"


def attach(cluster: ClusterFile, name: str, down: bool) -> int:
    """Follow a sweep again, from the last lines of its log; see `submit`."""
    token = cluster.token
    with reach(cluster, token) as jobs:
        job = found(jobs, name)
        log = jobs.log(job)
    shown = "".join(log.splitlines(keepends=True)[-SHOWN_AGAIN:])
    return follow(cluster, token, job, down, seen=len(log) - len(shown))


def stop(cluster: ClusterFile, name: str, down: bool) -> int:
    """Stop a sweep cleanly, and fetch what it has so far; see `submit`."""
    token = cluster.token
    with reach(cluster, token) as jobs:
        job = found(jobs, name)
        if job.ended:
            raise InputError("--stop", name, f"it has ended: {job.status}", "fetch its results with --attach")
        seen = len(jobs.log(job))
        jobs.stop(job)
    print(f"stopping the sweep {job.sweep}", flush=True)
    return follow(cluster, token, job, down, seen)


def ask(file: Path, name: str | None, flags: Sequence[str], here: Callable[[str], int]) -> int:
    """Say how a sweep of a cluster stands: from its object store, else the head says it.

    Args:
        file: of the cluster.
        name: of the sweep, or its folder as the cluster sees it.
        flags: of `status`.
        here: `status` on this machine, of a URI.

    Returns:
        The exit status of `status`.
    """
    cluster = read_cluster(file)
    try:
        head = find_head(cluster)
        if head is None:
            raise ClusterFailure(f"the cluster {cluster.name!r} is not up: it has no head")
        directory = name or ""
        if "/" not in directory:
            with reach(cluster, cluster.token) as jobs:
                job = found(jobs, directory)
            directory = job.output
            if job.status not in ("RUNNING", "SUCCEEDED"):
                say(f"the job {job.id} is {job.status}: {job.message}")
    except (ClusterFailure, ConnectionLost) as error:
        say(f"error: {error}")
        return cli.FAILED
    if is_remote(directory):
        return here(directory)
    command = f"{cluster.python} -m ristune.sweep status {shlex.join([*flags, directory])}"
    terminal = ["-t"] if sys.stdout.isatty() else []
    return subprocess.run(ssh(head, inside(command, cluster.container), *terminal)).returncode


def found(jobs: Jobs, name: str) -> Job:
    """A sweep that was submitted.

    Raises:
        InputError: if there is none of that name, with those there are.
    """
    job = jobs.find(name)
    if job is None:
        known = ", ".join(dict.fromkeys(job.sweep for job in jobs.all())) or "none"
        rule = f"it must be a sweep that was submitted since the head was started ({known})"
        remedy = "correct the name; one of before goes on with --resume OUTPUT/NAME"
        raise InputError("NAME", name, rule, remedy)
    return job


def follow(cluster: ClusterFile, token: str | None, job: Job, down: bool, seen: int = 0) -> int:
    """Follow a sweep to its end and fetch its results; Ctrl-C lets go of it, a second one stops it.

    Args:
        cluster: where it runs.
        token: of the cluster.
        job: the sweep.
        down: whether to take the cluster down when the results are here.
        seen: characters of its log that are not shown.

    Returns:
        The command's exit status.
    """

    def show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    follower = Follower(cluster, token, job, show, say, seen)
    try:
        try:
            job = follower.until_end()
        except KeyboardInterrupt:
            say(f"\nthe sweep goes on; Ctrl-C again within {SECOND_THOUGHTS:g} s to stop it")
            if not _interrupted_again():
                raise
            say("stopping the sweep")
            with reach(cluster, token) as jobs:
                jobs.stop(job)
            job = follower.until_end()
    except (KeyboardInterrupt, ClusterFailure, ConnectionLost) as error:
        if not isinstance(error, KeyboardInterrupt):
            say(f"error: {error}")
        say(f"it is followed no more. Follow it again, or see how it stands:\n{attach_command(cluster, job)}")
        say(f"python -m ristune.sweep status {job.sweep} --cluster {shlex.quote(str(cluster.path))}")
        if down:
            say(_kept("the sweep has not ended", cluster))
        return cli.INTERRUPTED if isinstance(error, KeyboardInterrupt) else cli.FAILED
    return _end(cluster, token, job, down)


def _end(cluster: ClusterFile, token: str | None, job: Job, down: bool) -> int:
    """Fetch the results of a sweep that has ended, and say how it did."""
    quoted = shlex.quote(str(cluster.path))
    if job.status != "SUCCEEDED" and job.exit_code is None and job.message:
        say(job.message)
    local = RUNS / job.sweep
    fetched = fetch(cluster, job, local)
    if fetched:
        print(f"results: {local}", flush=True)
    if job.status != "SUCCEEDED":
        shared = "" if is_remote(job.output) else " --shared"
        resume = f"python -m ristune.sweep --resume {shlex.quote(job.output)} --cluster {quoted}{shared}"
        say(f"go on with it:\n{resume}")
    status = {"SUCCEEDED": cli.DONE, "STOPPED": cli.INTERRUPTED}.get(job.status, job.exit_code or cli.FAILED)
    if not down:
        return status
    why = ""
    if not fetched:
        why = "the results are not here"
    elif job.status != "SUCCEEDED":
        why = "the sweep did not end as it should"
    else:
        with reach(cluster, token) as jobs:
            others = [other.sweep for other in jobs.all() if not other.ended]
        why = f"it runs {', '.join(others)}" if others else ""
    if why:
        say(_kept(why, cluster))
        return status
    print(f"taking the cluster {cluster.name} down", flush=True)
    with (local / LOG).open("a") as log:
        take_down(cluster, log)
    return status


def fetch(cluster: ClusterFile, job: Job, local: Path) -> bool:
    """Fetch the results of a sweep into a folder of this machine; what keeps them from it is said.

    Returns:
        Whether they are there.
    """
    try:
        if is_remote(job.output):
            fetching.from_store(job.output, local)
            _fetch_journal(job.output, local)
        else:
            head = find_head(cluster)
            if head is None:
                raise ClusterFailure(f"the cluster {cluster.name!r} is not up any more")
            fetching.from_head(head, cluster.container, job.output, local)
        fetching.relocate(local, job.output, job.config_dirs)
    except (ClusterFailure, InputError, OSError) as error:
        say(f"error: the results were not fetched: {error}\ntry again:\n{attach_command(cluster, job)}")
        return False
    if not is_sweep(local):
        say(f"the sweep has left no results in {job.output}")
        return False
    return True


def _interrupted_again() -> bool:
    with suppress(KeyboardInterrupt):
        # What the user has these seconds for is to press it again.
        time.sleep(SECOND_THOUGHTS)
        return False
    return True


def _kept(why: str, cluster: ClusterFile) -> str:
    return f"the cluster stays up, for {why}; take it down: ray down {shlex.quote(str(cluster.path))}"


def _fetch_journal(uri: str, local: Path) -> None:
    lines = Home(uri).segments.read()
    if lines:
        path = local / "journal" / FILE
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lines)


def attach_command(cluster: ClusterFile, job: Job) -> str:
    """What a user types to follow a sweep again."""
    file = shlex.quote(str(cluster.path))
    return f"python -m ristune.sweep --cluster {file} --attach {shlex.quote(job.sweep)}"


def say(text: str) -> None:
    """Tell the user, beside the log."""
    print(text, file=sys.stderr, flush=True)
