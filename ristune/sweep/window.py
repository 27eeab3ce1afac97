"""What the sampler sees of a study: the best trials, the latest and those that run, however long it is."""

import bisect
import copy
from collections.abc import Container, Sequence

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

# Of the trials that are seen, the share kept for the best, and the most that may be running ones. A model
# needs the best few to aim at, and what is usual to aim away from.
BEST, RUNNING = 0.25, 0.25
_MODELLED = (TrialState.COMPLETE, TrialState.PRUNED)


class Window(InMemoryStorage):
    """Optuna's storage in memory of one study, which shows its samplers at most so many trials.

    Trials keep their numbers. Infeasible trials are shown with the worst value of the feasible ones in view:
    the ceiling they were told with is no measurement, and a model that standardises values would see nothing
    else.

    Args:
        limit: trials that are shown at most; failed ones never are.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._ranked: list[tuple[bool, float, int]] = []
        self._ended: list[int] = []
        self._running: dict[int, None] = {}
        self._infeasible: set[int] = set()
        self._chosen: list[int] | None = None

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial, running or as the template says."""
        trial_id: int = super().create_new_trial(study_id, template_trial)
        self._note(trial_id)
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Start or end a trial."""
        changed: bool = super().set_trial_state_values(trial_id, state, values)
        self._note(trial_id)
        return changed

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials in view, by number; those that wait are outside of it, and all are returned."""
        if states == (TrialState.WAITING,):
            waiting: list[FrozenTrial] = super().get_all_trials(study_id, deepcopy, states)
            return waiting
        trials = self._feasible_values([self.get_trial(trial_id) for trial_id in self._choose()])
        seen = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(seen) if deepcopy else seen

    def _note(self, trial_id: int) -> None:
        trial = self.get_trial(trial_id)
        self._chosen = None
        if trial.state is TrialState.RUNNING:
            self._running[trial_id] = None
            return
        self._running.pop(trial_id, None)
        if trial.state not in _MODELLED:
            return
        infeasible = any(value > 0 for value in trial.constraints.values())
        if infeasible:
            self._infeasible.add(trial_id)
        self._ended.append(trial_id)
        value = trial.value if trial.value is not None else float("inf")
        bisect.insort(self._ranked, (infeasible, value, trial_id))

    def _choose(self) -> list[int]:
        """The trials in view, by number; an id is a number in a storage of one study."""
        if self._chosen is None:
            running = list(self._running)
            spared = max(0, self._limit - len(self._ended))
            running = running[-max(int(RUNNING * self._limit), spared) :]
            room = self._limit - len(running)
            chosen = set(running)
            chosen |= {trial_id for *_, trial_id in self._ranked[: min(room, int(BEST * self._limit))]}
            for trial_id in reversed(self._ended):
                if len(chosen) >= self._limit:
                    break
                chosen.add(trial_id)
            self._chosen = sorted(chosen)
        return self._chosen

    def _feasible_values(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        known = [
            trial.value
            for trial in trials
            if trial.state in _MODELLED
            and trial._trial_id not in self._infeasible
            and trial.value is not None
        ]
        if not known or not self._infeasible:
            return trials
        worst = max(known)
        return [_valued(t, worst) if t._trial_id in self._infeasible else t for t in trials]


def _valued(trial: FrozenTrial, value: float) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.value = value
    return shown
