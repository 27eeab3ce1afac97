"""Optuna's side of a sweep: what to try next, and what became of what was tried."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from ristune.sweep.history import History
from ristune.sweep.sampler import STATEFUL, create_study, quietly, random_sampler, sampler
from ristune.sweep.space import Scalar, Space, active_distributions, points, suggest, violated
from ristune.sweep.telling import FAIL, PRUNED, Verdict
from ristune.sweep.window import Window
from ristune.sweep_config import SweepConfig

# A constraint above 0 makes a trial infeasible: a model then ranks it behind every feasible one.
CONSTRAINT = "finite"
# Proposals of the sampler for one trial, and random ones after them, before the space counts as exhausted.
ATTEMPTS, RANDOM_ATTEMPTS = 10, 1000
# A finite space of so many points is looked through for what has not been tried.
FINITE = 10_000
# Where a proposal comes from.
SAMPLED, ENQUEUED = "sampler", "enqueued"


@dataclass(frozen=True)
class Proposal:
    """Values to try, and where they come from: the sampler, or the points that the user gave."""

    values: dict[str, Scalar]
    source: str


class Proposer:
    """Asks the sampler for values that were not tried and that the space allows, and tells it of the ends.

    What it proposes hangs on the space, the configuration, the number of the trial and what it was told, and
    on nothing else, so that a sweep that is resumed goes on as if it had never stopped.

    Args:
        space: what is searched.
        config: of the sampler.
        name: of the study.

    Attributes:
        study: Optuna's.
    """

    def __init__(self, space: Space, config: SweepConfig, name: str = "study") -> None:
        self._storage = Window(config.history)
        self.study = create_study(name, config, self._storage)
        self._study_id = self._storage.get_study_id_from_name(name)
        self._space = space
        self._config = config
        self._seen: set[str] = set()
        self._queue: deque[Mapping[str, Scalar]] = deque()
        self._asked = 0
        self._open: dict[str, optuna.Trial] = {}
        self._points = points(space, FINITE)

    def recall(self, history: History) -> None:
        """Take in what a journal says, in its order.

        Args:
            history: of the journal; nothing may have been proposed before.
        """
        for event in history.study:
            kind = event["event"]
            if kind == "enqueued":
                self.enqueue(event["values"])
            elif kind == "known":
                self.know(event["values"], event["value"], event["feasible"])
            elif kind == "asked":
                self._recall(event)
            else:
                told = {name: event[name] for name in ("kind", "value", "feasible", "epoch")}
                self.tell(event["trial"], Verdict(**told))

    def enqueue(self, point: Mapping[str, Scalar]) -> None:
        """Have a point, or a part of one, tried next.

        Args:
            point: values by path; what is missing is proposed.
        """
        self._queue.append(point)

    def know(self, values: Mapping[str, Scalar], value: float, feasible: bool) -> None:
        """Take in a trial of another sweep."""
        known = create_trial(
            params=dict(values),
            distributions=active_distributions(self._space, values),
            value=value,
            constraints={CONSTRAINT: float(not feasible)},
        )
        self.study.add_trial(known)

    def propose(self, trial: str) -> Proposal | None:
        """Values for a new trial.

        Args:
            trial: its id.

        Returns:
            None if everything that the space allows has been tried.
        """
        while self._queue:
            found = self._draw(trial, self._queue.popleft())
            if found is not None:
                return Proposal(found, ENQUEUED)
        found = self._draw(trial, {}) or self._left_over(trial)
        return None if found is None else Proposal(found, SAMPLED)

    def tell(self, trial: str, verdict: Verdict) -> None:
        """Tell the sampler how a trial ended.

        Args:
            trial: its id.
            verdict: once for each trial.
        """
        ended = self._open.pop(trial)
        if verdict.kind == FAIL:
            self.study.tell(ended, state=TrialState.FAIL)
            return
        ended.set_constraint(CONSTRAINT, float(not verdict.feasible))
        with quietly():
            if verdict.kind == PRUNED:
                assert verdict.value is not None
                ended.report(verdict.value, verdict.epoch)
                self.study.tell(ended, state=TrialState.PRUNED)
            else:
                self.study.tell(ended, verdict.value, state=TrialState.COMPLETE)

    def _recall(self, event: Mapping[str, Any]) -> None:
        """Take in a trial that was asked for; a sampler with a state of its own is asked again."""
        trial, values = event["trial"], event["values"]
        if self._config.sampler in STATEFUL:
            again = self.propose(trial)
            if again is not None and again.values == values:
                return
            # Another version of a library proposes otherwise: what was tried counts.
            self._discard(trial)
        elif event["source"] == ENQUEUED:
            # Points before it were not of use then, and are not now.
            while self._queue and not self._queue.popleft().items() <= values.items():
                continue
        running = create_trial(
            state=TrialState.RUNNING,
            params=values,
            distributions=active_distributions(self._space, values),
        )
        number = self._storage.create_new_trial(self._study_id, running)
        self._keep(trial, optuna.Trial(self.study, number), values)

    def _draw(self, trial: str, point: Mapping[str, Scalar]) -> dict[str, Scalar] | None:
        """Values that were not tried and that no constraint forbids; None if none was found.

        Args:
            trial: id of the trial.
            point: values that are fixed.
        """
        for attempt in range(ATTEMPTS + RANDOM_ATTEMPTS):
            choose = sampler if attempt < ATTEMPTS else random_sampler
            self.study.sampler = choose(self._config, self._asked, attempt)
            if point:
                self.study.enqueue_trial(dict(point))
            with quietly():
                asked = self.study.ask()
                values = suggest(self._space, asked)
            if _key(values) not in self._seen and not violated(self._space, values):
                self._keep(trial, asked, values)
                return values
            self.study.tell(asked, state=TrialState.FAIL)
            if len(point) == len(values) or self._exhausted():
                # Nothing else can come of it.
                return None
        return None

    def _exhausted(self) -> bool:
        return self._points is not None and len(self._seen) >= len(self._points)

    def _left_over(self, trial: str) -> dict[str, Scalar] | None:
        """One of the points of a finite space that were not tried."""
        left = [point for point in self._points or () if _key(point) not in self._seen]
        if not left:
            return None
        rng = np.random.default_rng([self._config.seed, self._asked])
        return self._draw(trial, left[rng.integers(len(left))])

    def _keep(self, trial: str, asked: optuna.Trial, values: Mapping[str, Scalar]) -> None:
        self._open[trial] = asked
        self._seen.add(_key(values))
        self._asked += 1

    def _discard(self, trial: str) -> None:
        asked = self._open.pop(trial, None)
        if asked is not None:
            self._seen.discard(_key(asked.params))
            self.study.tell(asked, state=TrialState.FAIL)
            self._asked -= 1


def preview(
    space: Space, config: SweepConfig, count: int, points: Sequence[Mapping[str, Scalar]] = ()
) -> list[dict[str, Scalar]]:
    """The first configurations that a sweep would try, as far as they do not depend on results.

    Args:
        space: as parsed.
        config: sampler, seed and startup trials.
        count: how many at most; what comes after the points and the startup trials depends on results.
        points: that come first.
    """
    proposer = Proposer(space, config)
    for point in points:
        proposer.enqueue(point)
    known = len(points) + config.startup_trials
    found = (proposer.propose(str(number)) for number in range(min(count, known)))
    return [proposal.values for proposal in found if proposal is not None]


def _key(values: Mapping[str, Scalar]) -> str:
    """What tells two points apart, 1 from 1.0 and from true too."""
    return json.dumps(values, sort_keys=True)
