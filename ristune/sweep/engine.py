"""Ray as the engine of a sweep: the environment Tune wants, and where its warnings go."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ristune import parallel
from ristune.errors import InputError
from ristune.sweep.resources import Resources


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
    variables = _variables(resources.cpus)
    try:
        with parallel.ray_running(resources.cores, resources.gpus, address, variables) as scratch:
            _log_to(log)
            yield scratch / "tune"
    finally:
        _close_log()


def not_restored() -> None:
    """What Ray's snapshots hold instead of a searcher and its scheduler.

    Raises:
        InputError: Ray restores a sweep from its own snapshots, which have neither.
    """
    rule = "a sweep goes on from its journal, not from Ray's snapshots"
    raise InputError("Tuner.restore", "", rule, "run the script again: the searcher finds its journal")


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


def _variables(threads: int) -> dict[str, str]:
    """The environment of Tune and its workers.

    Args:
        threads: of the numerical libraries in a worker.
    """
    return {
        "OMP_NUM_THREADS": str(threads),
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
