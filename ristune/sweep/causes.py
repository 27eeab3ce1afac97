"""Why a trial failed, from what Ray says of it."""

from ristune.sweep.history import State

# What Ray says of an actor whose machine is gone.
NODE_LOST = "its node has died"
# What a traceback of a worker has, and an account of its death has not.
RAISED = "ray::"


def diagnose(error: str) -> tuple[State, str]:
    """The state and the one-line reason of a trial that Ray reports as failed.

    Args:
        error: Ray's text: a traceback of the worker, or an account of the actor's death.
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Failure # ")]
    if not lines:
        return State.FAILED, "unknown"
    if "OutOfMemoryError" in error:
        return State.OOM, next(line for line in lines if "OutOfMemoryError" in line)
    # A traceback of the worker ends with what happened, an account of its death begins with it.
    return State.FAILED, lines[-1] if any(RAISED in line for line in lines) else lines[0]
