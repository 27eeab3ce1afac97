"""How a trial has lost its actor, from what Ray says of it."""

from dataclasses import dataclass

from ristune.sweep.history import State
from ristune.sweep.worker import WornOut

# What Ray says of an actor whose machine is gone, and of one that ended without a word.
NODE_LOST, DIED = "its node has died", "its worker process has died"
# What a traceback of a worker has, and an account of its death has not.
RAISED = "ray::"
# What passes by itself, or by somebody's hand.
PASSING = ("OSError", "StoreFailure", "Held")
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

    def certain(self, before: str) -> bool:
        """Whether it would only be lost again: it raised what it raised before, or a value was refused.

        Args:
            before: the reason of the failure before; empty if there was none.
        """
        return self.raised and ("InputError" in self.reason.partition(":")[0] or again(self.reason, before))


def again(reason: str, before: str) -> bool:
    """Whether a failure is the one before, and would come a third time; a full disk may have been emptied.

    Args:
        reason: of the failure.
        before: of the one before; empty if there was none.
    """
    return reason == before and not any(name in reason.partition(":")[0] for name in PASSING)


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
