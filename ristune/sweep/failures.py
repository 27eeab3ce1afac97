"""How actors are lost, and when a sweep is not worth going on with: most of its trials fail."""

from dataclasses import dataclass

from ristune.sweep.history import History, State
from ristune.sweep.worker import WornOut

# Fewer failures than these say little of a sweep.
ENOUGH = 5
# What Ray says of an actor whose machine is gone, and of one that ended without a word.
NODE_LOST, DIED = "its node has died", "its worker process has died"
# What a traceback of a worker has, and an account of its death has not.
RAISED = "ray::"
KILLED = (
    "its process crashed or was killed, as the system does when memory runs out "
    "(lower sweep.concurrency for fewer trials at once)"
)


@dataclass(frozen=True)
class Loss:
    """How a trial has lost its actor.

    Attributes:
        state: failed, or oom.
        reason: in a line.
        raised: whether it raised an exception, and was not killed.
        blameless: whether it says nothing of the trial: its machine was lost, or its worker worn out.
    """

    state: State
    reason: str
    raised: bool
    blameless: bool


def diagnose(error: str) -> Loss:
    """How an actor was lost.

    Args:
        error: Ray's text: a traceback of the worker, or an account of the actor's death.
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Failure # ")]
    raised = RAISED in error
    if not lines:
        return Loss(State.FAILED, "unknown", raised, blameless=False)
    blameless = NODE_LOST in error or (raised and f"{WornOut.__name__}: " in lines[-1])
    if "OutOfMemoryError" in error:
        reason = next(line for line in lines if "OutOfMemoryError" in line)
        return Loss(State.OOM, reason, raised, blameless)
    if DIED in error and not blameless and not raised:
        return Loss(State.FAILED, KILLED, raised, blameless)
    # A traceback of the worker ends with what happened, an account of its death begins with it.
    return Loss(State.FAILED, lines[-1] if raised else lines[0], raised, blameless)


class FailureLimit:
    """The share of failed trials that a sweep puts up with.

    Args:
        share: of the trials that have ended.
        history: of the sweep; what failed in earlier runs of it does not count against this one.
    """

    def __init__(self, share: float, history: History) -> None:
        self._share = share
        self._history = history
        self._before = _ended(history)

    def exceeded(self) -> str:
        """Why the sweep is to stop; empty while it may go on."""
        failed, ended = (now - then for now, then in zip(_ended(self._history), self._before, strict=True))
        if failed < ENOUGH or failed <= self._share * ended:
            return ""
        return (
            f"{failed} of the {ended} trials that ended have failed, more than sweep.max_failed_share "
            f"({self._share:g})"
        )


def _ended(history: History) -> tuple[int, int]:
    """Failed trials, and all that have ended."""
    return history.count(State.FAILED), sum(trial.state.ended for trial in history.trials.values())
