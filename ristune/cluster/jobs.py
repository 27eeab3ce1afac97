"""Ray's job server on a cluster's head: sweeps are submitted to it, found, followed and stopped."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from ristune.cluster.launcher import ClusterFailure, ClusterFile, find_head
from ristune.cluster.tunnel import ConnectionLost, tunnel
from ristune.errors import InputError

# Ray's client says on the terminal what it does.
for name in (
    "ray._private.runtime_env",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
):
    logging.getLogger(name).setLevel(logging.WARNING)

# Keys of a job's metadata.
SWEEP, OUTPUT, CONFIG_DIRS = "ristune_sweep", "ristune_output", "ristune_config_dirs"
# Seconds that a driver has to stop cleanly; Ray's own 3 are too few to write results.
STOP_SECONDS = 120
# What the connection, the tunnel or a server that restarts may raise; Ray's own are plain RuntimeErrors.
_LOST = (OSError, aiohttp.ClientError, asyncio.TimeoutError, RuntimeError)
# Seconds between two looks at a job whose log has ended, and how long a head may be out of reach.
PERIOD, PATIENCE = 1.0, 600.0
LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Job:
    """A sweep on a cluster.

    Attributes:
        id: of the submission.
        sweep: name of the sweep; its resumptions are jobs of their own.
        output: the sweep's folder, as the cluster sees it.
        config_dirs: the user's configuration folders where it was submitted.
        status: as Ray says it: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        ended: whether it is over.
        exit_code: of the driver; None if it runs, was stopped or never ran.
        message: Ray's own words.
    """

    id: str
    sweep: str
    output: str
    config_dirs: tuple[str, ...]
    status: str
    ended: bool
    exit_code: int | None
    message: str


class Jobs:
    """The jobs of a head that can be reached; whatever is asked raises ConnectionLost when it no longer can.

    Args:
        port: of this machine that leads to the head's job server.
        token: of the cluster; None for one that asks for none.

    Raises:
        ConnectionLost: if nothing answers there.
        InputError: if the token is refused.
    """

    def __init__(self, port: int, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with _losses():
            self._client = JobSubmissionClient(f"http://127.0.0.1:{port}", headers=headers)

    def all(self) -> list[Job]:
        """The sweeps that were submitted since the head started, the latest last."""
        with _losses():
            found = self._client.list_jobs()
        sweeps = [details for details in found if SWEEP in (details.metadata or {})]
        return [_job(details) for details in sorted(sweeps, key=lambda details: details.start_time or 0)]

    def find(self, sweep: str) -> Job | None:
        """The latest job of a sweep."""
        return next((job for job in reversed(self.all()) if sweep in (job.sweep, job.id)), None)

    def submit(self, sweep: str, command: str, archive: Path, output: str, config_dirs: Sequence[str]) -> str:
        """Submit a sweep, or its resumption.

        Args:
            sweep: its name.
            command: of a shell on the head.
            archive: the folder that it runs in.
            output: the sweep's folder, as the cluster sees it.
            config_dirs: the user's configuration folders here.

        Returns:
            The id of the submission: the sweep's name, and a number for a resumption.
        """
        taken = {job.id for job in self.all()}
        names = (sweep if number == 1 else f"{sweep}.{number}" for number in range(1, len(taken) + 2))
        with _losses():
            return str(
                self._client.submit_job(
                    entrypoint=command,
                    submission_id=next(name for name in names if name not in taken),
                    runtime_env={
                        "working_dir": str(archive),
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
                    },
                    metadata={SWEEP: sweep, OUTPUT: output, CONFIG_DIRS: json.dumps(list(config_dirs))},
                )
            )

    def stop(self, job: Job) -> None:
        """Ask a sweep to stop cleanly; `follow` sees it end."""
        with _losses():
            self._client.stop_job(job.id)

    def log(self, job: Job) -> str:
        """What it has printed so far."""
        with _losses():
            return str(self._client.get_job_logs(job.id))

    def follow(self, job: Job, show: Callable[[str], None]) -> None:
        """Show its log, from its beginning, as it comes, until the job or the server ends it."""

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job.id):
                show(text)

        with _losses():
            asyncio.run(tail())


@contextmanager
def reach(cluster: ClusterFile, token: str | None) -> Iterator[Jobs]:
    """The jobs of a cluster's head, through a tunnel that is open meanwhile.

    Args:
        cluster: its file.
        token: of the cluster.

    Raises:
        ClusterFailure: if the cluster is not up.
        ConnectionLost: if its head cannot be reached, or takes no jobs.
        InputError: if the token is refused.
    """
    head = find_head(cluster)
    if head is None:
        raise ClusterFailure(f"the cluster {cluster.name!r} is not up: it has no head")
    with tunnel(head, cluster.dashboard_port) as port:
        yield Jobs(port, token)


class Follower:
    """Follows a job over connections that come and go.

    Args:
        cluster: its file.
        token: of the cluster.
        job: what to follow.
        show: is given each piece of the log once.
        say: is told when the connection is lost, and when it is there again.
        seen: characters of the log that are not shown any more.
    """

    def __init__(
        self,
        cluster: ClusterFile,
        token: str | None,
        job: Job,
        show: Callable[[str], None],
        say: Callable[[str], None],
        seen: int = 0,
    ) -> None:
        self._cluster = cluster
        self._token = token
        self._job = job
        self._show = show
        self._say = say
        self._seen = seen

    def until_end(self) -> Job:
        """Follow it until it has ended.

        Returns:
            The job as it ended.

        Raises:
            ClusterFailure: if the head stays out of reach, or does not know the job any more.
        """
        lost: float | None = None
        pause = PERIOD
        while True:
            try:
                with reach(self._cluster, self._token) as jobs:
                    if lost is not None:
                        self._say("connected again")
                    lost, pause = None, PERIOD
                    return self._until_end(jobs)
            except ConnectionLost as error:
                now = time.monotonic()
                if lost is None:
                    lost = now
                    self._say(f"connection lost ({error}); the sweep goes on, trying again")
                if now - lost > PATIENCE:
                    raise ClusterFailure(f"the head cannot be reached any more: {error}") from error
            # A network that is away for a moment is not asked without end.
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _until_end(self, jobs: Jobs) -> Job:
        while True:
            read = 0

            def show(text: str) -> None:
                nonlocal read
                new = text[max(0, self._seen - read) :]
                read += len(text)
                if new:
                    self._seen = read
                    self._show(new)

            jobs.follow(self._job, show)
            job = next((job for job in jobs.all() if job.id == self._job.id), None)
            if job is None:
                raise ClusterFailure(f"the head does not know {self._job.id!r}: it was started anew since")
            if job.ended:
                return job
            # The stream of a log ends a moment before its job does.
            time.sleep(PERIOD)


@contextmanager
def _losses() -> Iterator[None]:
    """What Ray's client raises of connections, by one name."""
    try:
        yield
    except AuthenticationError as error:
        rule = "the cluster's token must be known here"
        remedy = "copy the head's ~/.ray/auth_token, or name the right one in the cluster file's file_mounts"
        raise InputError("token", "***", f"{rule} ({str(error).splitlines()[0]})", remedy) from error
    except ConnectionLost:
        raise
    except _LOST as error:
        raise ConnectionLost(" ".join(str(error).split()) or type(error).__name__) from error


def _job(details: JobDetails) -> Job:
    metadata: Mapping[str, Any] = details.metadata or {}
    return Job(
        id=str(details.submission_id),
        sweep=metadata[SWEEP],
        output=metadata[OUTPUT],
        config_dirs=tuple(json.loads(metadata[CONFIG_DIRS])),
        status=str(details.status.value),
        ended=JobStatus(details.status).is_terminal(),
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )
