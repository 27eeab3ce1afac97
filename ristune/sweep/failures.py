"""When a sweep is not worth going on with: most of its trials fail."""

from ristune.sweep.history import History, State

# Fewer failures than these say little of a sweep.
ENOUGH = 5


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
    return history.count(State.FAILED), history.told
