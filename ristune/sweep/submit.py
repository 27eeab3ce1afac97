"""A sweep that is sent to a cluster, which is brought up: its head runs the sweep as a job of Ray's."""

import argparse
import shlex
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ristune import cli
from ristune.cluster.jobs import Job, Jobs, reach
from ristune.cluster.launcher import ClusterFailure, ClusterFile, find_head, read_cluster, start
from ristune.cluster.luggage import Luggage
from ristune.cluster.tunnel import ConnectionLost
from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.checking import check, sweep_name
from ristune.sweep.dry_run import print_plan
from ristune.sweep.finding import RUNS, is_sweep
from ristune.sweep.following import LOG, attach, attach_command, follow, say, stop
from ristune.sweep.order import Order, order, resumption, travelling
from ristune.sweep.resources import plan_cluster

# Seconds for a job server to answer after its head is up, and between two tries.
SERVER_PATIENCE, PERIOD = 60.0, 1.0
# What the job server says while there is nobody on the head yet who runs jobs.
NOT_YET = "No available agent"


def run(arguments: argparse.Namespace, trials: int) -> int:
    """What a command line with `--cluster` asks for.

    Args:
        arguments: of the command line, that go together.
        trials: of a new sweep, in total.

    Returns:
        The command's exit status.
    """
    cluster = read_cluster(arguments.cluster)
    try:
        if arguments.attach is not None:
            return attach(cluster, arguments.attach, arguments.down)
        if arguments.stop is not None:
            return stop(cluster, arguments.stop, arguments.down)
        if arguments.resume is not None:
            return submit(cluster, resumption(arguments), arguments.down)
        what = _new(arguments, cli.configure(arguments), cluster, trials)
        return cli.DONE if what is None else submit(cluster, what, arguments.down)
    except (ClusterFailure, ConnectionLost) as error:
        say(f"error: {error}")
        return cli.FAILED


def _new(arguments: argparse.Namespace, config: Config, cluster: ClusterFile, trials: int) -> Order | None:
    """A new sweep, checked as far as it can be here; None if it is only to be shown."""
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return None
    space, knowledge = check(arguments, config)
    what = order(arguments, config, cluster, sweep_name(arguments.name, config), trials)
    config = config.with_values(what.settings)
    resources = plan_cluster(config.training.device, trials, config.sweep)
    if arguments.dry_run:
        print_plan(Console(), config, space, trials, what.output, resources, None, knowledge)
        return None
    return what


def submit(cluster: ClusterFile, what: Order, down: bool) -> int:
    """Submit a sweep, follow it and fetch its results.

    Args:
        cluster: where it runs; brought up if it is not.
        what: checked.
        down: whether to take the cluster down when the results are here.

    Returns:
        The command's exit status.

    Raises:
        InputError: if there is a sweep of that name.
        ClusterFailure: if the cluster does not come up or cannot be reached.
    """
    local = RUNS / what.name
    resumed = "--resume" in what.words
    if not resumed and is_sweep(local):
        rule = f"{local}, where its results are to be, is a sweep already"
        raise InputError("--name", what.name, rule, "choose another name")
    token = cluster.token
    with TemporaryDirectory(prefix="ristune-") as scratch:
        links = Path(scratch) / "links"
        links.mkdir()
        luggage = Luggage(links, Path.cwd())
        words = [*travelling(luggage, what), *what.words]
        archive = luggage.pack(Path(scratch) / "sweep.zip")
        command = f"exec {cluster.python} -m ristune.sweep --address auto {shlex.join(words)}"
        local.mkdir(parents=True, exist_ok=True)
        _bring_up(cluster, token, local / LOG)
        with reach(cluster, token) as jobs:
            _check_free(jobs, what.name, resumed, cluster)
            job_id = _submit(jobs, what, command, archive)
    job = Job(job_id, what.name, what.output, what.config_dirs, "PENDING", False, None, "")
    print(f"sweep {what.name} submitted: {what.describe}; it goes on without this terminal")
    print(f"to follow it again: {attach_command(cluster, job)}", flush=True)
    return follow(cluster, token, job, down)


def _submit(jobs: Jobs, what: Order, command: str, archive: Path) -> str:
    """The id of the submission; a head that has only just started does not take one at once."""
    deadline = time.monotonic() + SERVER_PATIENCE
    while True:
        try:
            return jobs.submit(what.name, command, archive, what.output, what.config_dirs)
        except ConnectionLost as error:
            if NOT_YET not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(PERIOD)


def _bring_up(cluster: ClusterFile, token: str | None, log: Path) -> None:
    """Start the cluster unless it is up and takes jobs."""
    if find_head(cluster) is not None and _answers(cluster, token, 0.0):
        print(f"cluster {cluster.name} is up", flush=True)
        return
    print(f"starting the cluster {cluster.name}; what `ray up` says is in {log}", flush=True)
    with log.open("a") as file:
        start(cluster, file)
    if not _answers(cluster, token, SERVER_PATIENCE):
        rule = f"its head takes no jobs on port {cluster.dashboard_port} (does it have ray[default]?)"
        raise ClusterFailure(f"the cluster {cluster.name} is up, but {rule}; see {log}")


def _answers(cluster: ClusterFile, token: str | None, patience: float) -> bool:
    """Whether the head takes jobs; a head that cannot even be logged in to is an error."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with reach(cluster, token):
                return True
        except ConnectionLost as error:
            if str(error).startswith("ssh "):
                # Starting Ray anew would not mend it, and end what runs there.
                raise ClusterFailure(f"the head cannot be reached: {error}") from error
        if time.monotonic() > deadline:
            return False
        time.sleep(PERIOD)


def _check_free(jobs: Jobs, name: str, resumed: bool, cluster: ClusterFile) -> None:
    job = jobs.find(name)
    if job is not None and (not job.ended or not resumed):
        rule = (
            "it is running on this cluster" if not job.ended else "this cluster has run a sweep of that name"
        )
        remedy = f"follow it: python -m ristune.sweep --cluster {cluster.path} --attach {name}"
        raise InputError("--resume" if resumed else "--name", name, rule, remedy)
