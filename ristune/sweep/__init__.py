"""Many trials: Optuna proposes them, Ray runs them, a journal keeps what became of them.

For those who have a Tune script of their own: `from ristune.sweep import StudySearch, GuardedASHA`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ristune.sweep.scheduler import GuardedASHA
    from ristune.sweep.study import StudySearch

__all__ = ["GuardedASHA", "StudySearch"]


def __getattr__(name: str) -> Any:
    # Ray takes a second to import, and the commands of this package import it only when they need it.
    if name == "StudySearch":
        from ristune.sweep.study import StudySearch

        return StudySearch
    if name == "GuardedASHA":
        from ristune.sweep.scheduler import GuardedASHA

        return GuardedASHA
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
