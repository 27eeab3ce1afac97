"""Ray as the engine of a sweep: its environment, its start and its end."""

import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from ristune.sweep.resources import Resources

# Trials pass records of a few hundred bytes through it; datasets do not go there.
OBJECT_STORE_BYTES = 128 * 2**20
# A socket's path ends at 107 characters, and Ray appends about 62.
LONGEST_TEMPORARY = 40


@contextmanager
def ray_running(resources: Resources, address: str | None, log: Path) -> Iterator[Path]:
    """Ray for the time of a sweep; afterwards none of its processes and files is left.

    Args:
        resources: cores and GPUs of a Ray on this machine, and threads of a worker.
        address: of a running cluster to join instead.
        log: file for Ray's warnings; made when there are any.

    Yields:
        A folder for Tune's own files.
    """
    with _scratch() as scratch, _environment(resources.cpus, scratch):
        try:
            with _hangup_ignored():
                _start(resources, address, scratch)
            _log_to(log)
            yield scratch / "tune"
        finally:
            ray.shutdown()
            _close_log()


def _start(resources: Resources, address: str | None, scratch: Path) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        _give_token()
        ray.init(
            num_cpus=resources.cores,
            num_gpus=resources.gpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(scratch / "ray"),
            **quiet,
        )
    else:
        paths = {"PYTHONPATH": os.environ["PYTHONPATH"]}
        ray.init(address=address, runtime_env={"env_vars": paths}, **quiet)


@contextmanager
def _hangup_ignored() -> Iterator[None]:
    """Processes started meanwhile outlive a terminal that closes: the sweep itself ends them, in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _give_token() -> None:
    """A token of our own for a Ray of our own: Ray would write one into the user's home.

    It stays for the life of the process, for Ray reads it once.
    """
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _log_to(path: Path) -> None:
    """Keep Ray's words out of the display, in a file that is made when there are any."""
    logger = logging.getLogger("ray")
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    # It misses the result files that Tune's own loggers would have written.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)


def _close_log() -> None:
    logger = logging.getLogger("ray")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for Ray's session and Tune's files, gone afterwards."""
    place = tempfile.gettempdir()
    short = place if len(place) + len("/ristune-12345678/ray") <= LONGEST_TEMPORARY else "/tmp"
    with tempfile.TemporaryDirectory(prefix="ristune-", dir=short, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _environment(threads: int, scratch: Path) -> Iterator[None]:
    """What Ray's processes inherit; put back afterwards.

    Args:
        threads: of the numerical libraries in a worker.
        scratch: where they put temporary files; W&B leaves a folder a worker behind.
    """
    wanted = {
        # Workers import the user's modules from where the driver does.
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "OMP_NUM_THREADS": str(threads),
        "TMPDIR": str(scratch),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Relative paths of the configuration mean the same in a worker.
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # Ray's older output keeps silent at verbose=0; the newer prints a table all the same.
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
